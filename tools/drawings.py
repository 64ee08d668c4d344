"""Draw the diagrams of the design pages: python tools/drawings.py

What is drawn is in tables here, which tests/test_design.py compares with what the code does, and
the files with what is drawn. The drawings have a light ground of their own, for dark pages.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

DIRECTORY = Path(__file__).resolve().parent.parent / "docs" / "design"

# Fill and outline of a box, by what it is.
KINDS = {
    "public": ("#cdeac0", "#3f7d2e"),
    "private": ("#fff3b8", "#a68a16"),
    "buffer": ("#ffd3a6", "#b9651b"),
    "outside": ("#e9e9ee", "#77777f"),
    "state": ("#e3ecfa", "#3d639c"),
    "end": ("#e9e9ee", "#55555c"),
}
INK, PAPER, LINE = "#1c1c20", "#fdfdfb", "#4a4a52"
SANS = "system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif"
MONO = "ui-monospace, 'DejaVu Sans Mono', monospace"

Point = tuple[float, float]


@dataclass(frozen=True)
class Box:
    """A box: its place and size, a title, lines below it, names of code among them."""

    kind: str
    x: float
    y: float
    width: float
    height: float
    title: str
    code: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def at(self, side: str, share: float = 0.5) -> Point:
        """Return the point of a side, that far along it."""
        across, down = self.x + self.width * share, self.y + self.height * share
        return {
            "left": (self.x, down),
            "right": (self.x + self.width, down),
            "top": (across, self.y),
            "bottom": (across, self.y + self.height),
        }[side]


@dataclass(frozen=True)
class Label:
    """Lines of text at a place, and how they are aligned to it."""

    x: float
    y: float
    lines: tuple[str, ...]
    anchor: str = "start"


class Drawing:
    """Collects the elements of an SVG."""

    def __init__(self, width: float, height: float, title: str) -> None:
        self.elements = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
            f'width="{width:g}" height="{height:g}" role="img" font-family="{SANS}" '
            f'font-size="13" fill="{INK}">',
            f"<title>{escape(title)}</title>",
            '<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" '
            f'markerHeight="8" orient="auto"><path d="M0 0 10 5 0 10z" fill="{LINE}"/>'
            "</marker></defs>",
            f'<rect x="0.5" y="0.5" width="{width - 1:g}" height="{height - 1:g}" rx="10" '
            f'fill="{PAPER}" stroke="#d0d0d4"/>',
        ]

    def box(self, box: Box) -> None:
        fill, outline = KINDS[box.kind]
        radius = 16 if box.kind in ("state", "end") else 5
        self.elements.append(
            f'<rect x="{box.x:g}" y="{box.y:g}" width="{box.width:g}" height="{box.height:g}" '
            f'rx="{radius}" fill="{fill}" stroke="{outline}" stroke-width="1.3"/>'
        )
        lines = [(box.title, "bold", SANS, 13.5)] if box.title else []
        lines += [(line, "normal", MONO, 12.5) for line in box.code]
        lines += [(line, "normal", SANS, 12.0) for line in box.notes]
        y = box.y + (box.height - 16 * len(lines)) / 2 + 12
        for line, weight, family, size in lines:
            self.elements.append(
                f'<text x="{box.x + box.width / 2:g}" y="{y:g}" text-anchor="middle" '
                f'font-weight="{weight}" font-family="{family}" font-size="{size:g}">'
                f"{escape(line)}</text>"
            )
            y += 16

    def arrow(self, points: Sequence[Point], dashed: bool = False) -> None:
        path = " ".join(f"{x:g},{y:g}" for x, y in points)
        dashes = ' stroke-dasharray="5 4"' if dashed else ""
        self.elements.append(
            f'<polyline points="{path}" fill="none" stroke="{LINE}" stroke-width="1.4"{dashes} '
            'stroke-linejoin="round" marker-end="url(#tip)"/>'
        )

    def label(self, label: Label, size: float = 12, weight: str = "normal") -> None:
        for number, line in enumerate(label.lines):
            self.elements.append(
                f'<text x="{label.x:g}" y="{label.y + 15 * number:g}" font-size="{size:g}" '
                f'font-weight="{weight}" text-anchor="{label.anchor}">{escape(line)}</text>'
            )

    def text(self) -> str:
        return "\n".join([*self.elements, "</svg>"]) + "\n"


# States

# An input is what comes from the peer, or what this side is told to do; an output is what is
# written then. FIN is the end of this side's stream; "FIN by server" is written by a server only.


@dataclass(frozen=True)
class Step:
    """An arrow between two states: what causes it, and what is written."""

    start: str
    end: str
    inputs: tuple[str, ...]
    output: str
    points: tuple[Point, ...]
    label: Label
    side: str = "both"

    @property
    def text(self) -> Label:
        """The label; where it has no words, they are those of the step."""
        label = self.label
        lines = label.lines or (*self.inputs, *((f"/ {self.output}",) if self.output else ()))
        return Label(label.x, label.y, lines, label.anchor)

    def written_by(self, side: str) -> list[str]:
        """What a side writes, client's or server's."""
        written = self.output.split(", ") if self.output else []
        return [item.split(" by ")[0] for item in written if item.split(" by ")[1:] in ([], [side])]


@dataclass(frozen=True)
class Machine:
    """States, the steps between them, and where a side starts."""

    title: str
    width: float
    height: float
    states: dict[str, Box]
    steps: tuple[Step, ...]
    labels: tuple[Label, ...] = ()

    def draw(self) -> str:
        drawing = Drawing(self.width, self.height, self.title)
        for points in dict.fromkeys(step.points for step in self.steps):
            drawing.arrow(points)
        for box in self.states.values():
            drawing.box(box)
        for step in self.steps:
            drawing.label(step.text)
        for label in self.labels:
            drawing.label(label, 13, "bold")
        return drawing.text()


def state(x: float, y: float, title: str, *notes: str, end: bool = False) -> Box:
    return Box("end" if end else "state", x, y, 150, 74, title, notes=notes)


CLOSING_STATES = {
    "open": state(30, 190, "open", "state OPEN"),
    "asked": state(290, 190, "asked", "state CLOSING", "close frame sent"),
    "shaken": state(545, 50, "shaken", "state CLOSING", "both close frames"),
    "failed": state(545, 330, "failed", "state CLOSING", "hears nothing"),
    "given up": state(545, 480, "given up", "state OPEN", "hears nothing"),
    "closed well": state(800, 50, "closed", "sent and received", end=True),
    "closed, sent": state(800, 330, "closed", "sent, none received", end=True),
    "closed, silent": state(800, 480, "closed", "neither", end=True),
}


def place(x: float, y: float, anchor: str = "start", lines: tuple[str, ...] = ()) -> Label:
    return Label(x, y, lines, anchor)


CLOSING = Machine(
    "States of an open connection, from open to closed",
    980,
    640,
    CLOSING_STATES,
    (
        Step(
            "open",
            "asked",
            ("send_close()",),
            "close",
            ((180, 227), (290, 227)),
            place(235, 203, "middle"),
        ),
        Step(
            "open",
            "shaken",
            ("close frame",),
            "close, FIN by server",
            ((105, 190), (105, 75), (545, 75)),
            place(325, 54, "middle"),
        ),
        Step(
            "asked",
            "shaken",
            ("close frame",),
            "FIN by server",
            ((365, 190), (365, 105), (545, 105)),
            place(374, 124),
        ),
        Step(
            "asked",
            "failed",
            ("bad frame", "fail(1011)", "fail(1006)"),
            "FIN by server",
            ((365, 264), (365, 352), (545, 352)),
            place(374, 293),
        ),
        Step(
            "asked",
            "closed, sent",
            ("end of stream",),
            "FIN",
            ((440, 227), (875, 227), (875, 330)),
            place(560, 205),
        ),
        Step(
            "open",
            "failed",
            ("bad frame", "fail(1011)"),
            "close, FIN by server",
            ((135, 264), (135, 385), (545, 385)),
            place(146, 342),
        ),
        Step(
            "open",
            "given up",
            ("fail(1006)",),
            "FIN by server",
            ((95, 264), (95, 517), (545, 517)),
            place(146, 495),
        ),
        Step(
            "open",
            "closed, silent",
            ("end of stream",),
            "FIN",
            ((55, 264), (55, 610), (875, 610), (875, 554)),
            place(146, 588),
        ),
        Step(
            "given up",
            "failed",
            ("send_close()", "fail(1011)"),
            "close",
            ((620, 480), (620, 404)),
            place(629, 428, lines=("client: send_close(),", "fail(1011)", "/ close")),
            side="client",
        ),
        Step(
            "shaken",
            "closed well",
            ("end of stream",),
            "FIN by client",
            ((695, 87), (800, 87)),
            place(748, 47, "middle", ("end of stream", "/ FIN by client")),
        ),
        Step(
            "failed",
            "closed, sent",
            ("end of stream",),
            "FIN by client",
            ((695, 367), (800, 367)),
            place(748, 327, "middle", ("end of stream", "/ FIN by client")),
        ),
        Step(
            "given up",
            "closed, silent",
            ("end of stream",),
            "FIN by client",
            ((695, 517), (800, 517)),
            place(748, 477, "middle", ("end of stream", "/ FIN by client")),
        ),
    ),
)

OPENING_STATES = {
    "client waiting": state(40, 60, "waiting", "state CONNECTING", "request sent"),
    "client open": state(700, 60, "open", "state OPEN"),
    "client refused": state(370, 190, "refused", "state CONNECTING", "hears nothing"),
    "client closed": state(700, 190, "closed", "state CLOSED", end=True),
    "server waiting": state(40, 400, "waiting", "state CONNECTING"),
    "server deciding": state(370, 400, "deciding", "state CONNECTING", "request received"),
    "server open": state(700, 400, "open", "state OPEN"),
    "server refused": state(370, 560, "refused", "state CONNECTING", "hears nothing"),
    "server closed": state(700, 560, "closed", "state CLOSED", end=True),
}

OPENING = Machine(
    "States of the opening handshake of a client and of a server",
    890,
    700,
    OPENING_STATES,
    (
        Step(
            "client waiting",
            "client open",
            ("response 101",),
            "",
            ((190, 97), (700, 97)),
            place(445, 89, "middle"),
        ),
        Step(
            "client waiting",
            "client refused",
            ("another response", "no HTTP"),
            "FIN",
            ((115, 134), (115, 227), (370, 227)),
            place(130, 180),
        ),
        Step(
            "client waiting",
            "client closed",
            ("end of stream",),
            "FIN",
            ((75, 134), (75, 300), (775, 300), (775, 264)),
            place(130, 290, lines=("end of stream / FIN",)),
        ),
        Step(
            "client refused",
            "client closed",
            ("end of stream",),
            "",
            ((520, 227), (700, 227)),
            place(610, 219, "middle"),
        ),
        Step(
            "server waiting",
            "server deciding",
            ("request",),
            "",
            ((190, 437), (370, 437)),
            place(280, 429, "middle"),
        ),
        Step(
            "server deciding",
            "server open",
            ("accept",),
            "response 101",
            ((520, 437), (700, 437)),
            place(610, 414, "middle"),
        ),
        Step(
            "server waiting",
            "server refused",
            ("no HTTP", "reject"),
            "response, FIN",
            ((115, 474), (115, 597), (370, 597)),
            place(130, 550),
        ),
        Step(
            "server deciding",
            "server refused",
            ("reject",),
            "response, FIN",
            ((415, 474), (415, 560)),
            place(424, 510),
        ),
        Step(
            "server deciding",
            "server closed",
            ("end of stream",),
            "FIN",
            ((490, 474), (490, 492), (775, 492), (775, 560)),
            place(600, 510, lines=("end of stream / FIN",)),
        ),
        Step(
            "server refused",
            "server closed",
            ("end of stream",),
            "",
            ((520, 597), (700, 597)),
            place(610, 589, "middle"),
        ),
        Step(
            "server waiting",
            "server closed",
            ("end of stream",),
            "FIN",
            ((75, 474), (75, 670), (775, 670), (775, 634)),
            place(130, 660, lines=("end of stream / FIN",)),
        ),
    ),
    (Label(40, 38, ("Client",)), Label(40, 378, ("Server",))),
)

# Keepalive: an input is the start, the stop, a pong, or what has happened when the deadline passes;
# the output is what Keepalive.expire() answers then.

KEEPALIVE_STATES = {
    "off": Box("end", 30, 60, 160, 74, "off", notes=("no deadline",)),
    "waiting": Box("state", 330, 60, 160, 74, "waiting", notes=("until the next ping",)),
    "ping out": Box("state", 330, 270, 160, 74, "ping out", notes=("ping_timeout runs",)),
    "doubted": Box(
        "state", 330, 500, 160, 74, "doubted", notes=("looks again, having", "read what there is")
    ),
    "given up": Box("end", 800, 270, 160, 74, "given up", notes=("close 1011",)),
}
HEARD = (
    "heard",
    "heard, not reading",
    "neither reading",
    "part of a frame",
    "peer not reading",
)

KEEPALIVE = Machine(
    "States of keepalive",
    1015,
    620,
    KEEPALIVE_STATES,
    (
        Step(
            "off",
            "waiting",
            ("start",),
            "",
            ((190, 82), (330, 82)),
            place(260, 74, "middle", ("connection opens",)),
        ),
        Step(
            "waiting",
            "off",
            ("stop",),
            "",
            ((330, 114), (190, 114)),
            place(260, 132, "middle", ("it closes",)),
        ),
        Step(
            "ping out",
            "off",
            ("stop",),
            "",
            ((330, 320), (130, 320), (130, 134)),
            place(146, 312, lines=("it closes",)),
        ),
        Step(
            "doubted",
            "off",
            ("stop",),
            "",
            ((330, 537), (90, 537), (90, 134)),
            place(146, 529, lines=("it closes",)),
        ),
        Step(
            "waiting",
            "ping out",
            (*HEARD, "not reading", "silence"),
            "PING",
            ((380, 134), (380, 270)),
            place(372, 195, "end", ("ping_interval passes", "/ PING")),
        ),
        Step(
            "ping out",
            "waiting",
            ("pong",),
            "",
            ((430, 270), (430, 134)),
            place(438, 175, lines=("pong",)),
        ),
        Step(
            "ping out",
            "ping out",
            (*HEARD, "silence"),
            "",
            ((460, 270), (460, 215), (560, 215), (560, 290), (490, 290)),
            place(
                568,
                198,
                lines=(
                    "ping_timeout passes:",
                    "something was heard, or this side",
                    "has only just begun to read again",
                ),
            ),
        ),
        Step(
            "ping out",
            "ping out",
            ("not reading",),
            "UNREAD",
            ((460, 270), (460, 215), (560, 215), (560, 290), (490, 290)),
            place(568, 243, lines=("or this side is not reading / UNREAD",)),
        ),
        Step(
            "ping out",
            "doubted",
            ("silence",),
            "",
            ((380, 344), (380, 500)),
            place(372, 415, "end", ("ping_timeout passes:", "silence")),
        ),
        Step(
            "doubted",
            "ping out",
            HEARD,
            "",
            ((440, 500), (440, 344)),
            place(448, 425, lines=("something was heard,",)),
        ),
        Step(
            "doubted",
            "ping out",
            ("not reading",),
            "UNREAD",
            ((440, 500), (440, 344)),
            place(448, 440, lines=("or this side is not reading / UNREAD",)),
        ),
        Step(
            "doubted",
            "waiting",
            ("pong",),
            "",
            ((490, 560), (985, 560), (985, 97), (490, 97)),
            place(600, 552, lines=("pong",)),
        ),
        Step(
            "doubted",
            "given up",
            ("silence",),
            "SILENCE",
            ((490, 527), (880, 527), (880, 344)),
            place(600, 519, lines=("silence / SILENCE",)),
        ),
        Step(
            "ping out",
            "given up",
            ("part of a frame",),
            "SILENCE",
            ((490, 320), (800, 320)),
            place(500, 338, lines=("5 times:", "a part of one frame / SILENCE")),
        ),
        Step(
            "ping out",
            "given up",
            ("peer not reading",),
            "BLOCKED",
            ((490, 320), (800, 320)),
            place(500, 368, lines=("peer reads nothing / BLOCKED",)),
        ),
        Step(
            "ping out",
            "given up",
            ("neither reading",),
            "STUCK",
            ((490, 320), (800, 320)),
            place(500, 383, lines=("nor does this side / STUCK",)),
        ),
    ),
)

# How data flows: what is named in a box is in the code.


@dataclass(frozen=True)
class Arrow:
    """An arrow of the drawing of data flow; a dashed one holds something up."""

    points: tuple[Point, ...]
    lines: tuple[str, ...] = ()
    at: Point = (0, 0)
    anchor: str = "start"
    dashed: bool = False


WIDE = 222
IN, MIDDLE, OUT = 96, 376, 656
FLOW_WIDTH, FLOW_HEIGHT = 1080, 1160
# Middles of the columns.
UP, ACROSS, DOWN = IN + WIDE / 2, MIDDLE + WIDE / 2, OUT + WIDE / 2


def code(kind: str, x: float, y: float, height: float, *names: str) -> Box:
    return Box(kind, x, y, WIDE, height, "", names)


FLOW_BOXES = (
    # Receiving, from the socket up
    Box("outside", IN, 1060, WIDE, 40, "kernel: receive buffer"),
    code("private", IN, 920, 60, "Channel.get_buffer", "Channel.buffer_updated"),
    Box("buffer", IN, 790, WIDE, 55, "read buffer", notes=("256 KiB for an event loop",)),
    code(
        "private",
        IN,
        600,
        90,
        "Channel._ws_receive",
        "Session.read",
        "FrameReader.read_messages",
        "Protocol.read_frame",
        "Connection._ws_settle",
    ),
    Box(
        "buffer",
        IN,
        470,
        150,
        80,
        "unfinished",
        ("FrameReader",),
        ("payload under way,", "unread rest"),
    ),
    Box("buffer", IN, 345, WIDE, 70, "queue", ("Session.messages",), ("up to max_queue messages",)),
    code(
        "private",
        IN,
        215,
        80,
        "wake",
        "Channel.__anext__",
        "Connection._ws_receive_message",
        "Connection._ws_wait",
    ),
    code(
        "public",
        IN,
        90,
        75,
        "Connection.recv",
        "Connection.recv_streaming",
        "Connection.__aiter__",
    ),
    # What goes on whether or not the application does anything
    code(
        "private",
        MIDDLE,
        215,
        80,
        "Connection._ws_on_timer",
        "Session.expire",
        "Connection._ws_send_keepalive",
    ),
    Box(
        "buffer",
        MIDDLE,
        345,
        WIDE,
        70,
        "pings under way",
        ("Session.pings",),
        ("their futures end with the pong",),
    ),
    code(
        "private",
        MIDDLE,
        600,
        90,
        "Protocol.recv_frame",
        "Session.acknowledge",
        "Connection._ws_act",
    ),
    # Sending, from the application down
    code(
        "public",
        OUT,
        70,
        95,
        "Connection.send",
        "Connection.ping",
        "Connection.pong",
        "Connection.close",
        "broadcast",
    ),
    code("private", OUT, 215, 55, "Connection._ws_clear_to_send", "Connection._ws_drain"),
    code(
        "private",
        OUT,
        335,
        70,
        "Channel._ws_send_message",
        "Connection._ws_send_fragments",
        "Protocol.send_frame",
    ),
    Box(
        "buffer",
        OUT,
        470,
        WIDE,
        70,
        "frames",
        ("Protocol.writes",),
        ("and the pong that is held back",),
    ),
    code("private", OUT, 615, 55, "Channel._ws_write", "Connection._ws_transmit"),
    Box(
        "buffer",
        OUT,
        715,
        WIDE,
        70,
        "cork",
        ("Channel._ws_corked",),
        ("up to write_limit + a message",),
    ),
    code("private", OUT, 830, 55, "Channel._ws_flush", "Channel._ws_write_now"),
    Box(
        "buffer",
        OUT,
        940,
        WIDE,
        70,
        "transport's write buffer",
        notes=("what the kernel does not take:", "up to write_limit + a message"),
    ),
    Box("outside", OUT, 1060, WIDE, 40, "kernel: send buffer"),
)

FLOW_ARROWS = (
    # Receiving
    Arrow(((UP, 1060), (UP, 980)), ("recv(2), or the transport",), (UP + 8, 1024)),
    Arrow(((UP, 920), (UP, 845))),
    Arrow(((UP, 790), (UP, 690)), ("borrowed, not copied",), (UP + 8, 744)),
    Arrow(((IN + 70, 600), (IN + 70, 550))),
    Arrow(((IN + 70, 470), (IN + 70, 415))),
    Arrow(((IN + 185, 600), (IN + 185, 415)), ("whole", "messages"), (IN + 192, 500)),
    Arrow(((UP, 345), (UP, 295))),
    Arrow(((UP, 215), (UP, 165)), ("in the same callback",), (UP + 8, 195)),
    Arrow(((IN + WIDE, 645), (MIDDLE, 645)), ("control", "frames"), (IN + WIDE + 6, 619)),
    Arrow(((ACROSS, 600), (ACROSS, 415)), ("pong",), (ACROSS + 8, 510)),
    Arrow(
        ((IN, 380), (72, 380), (72, 950), (IN, 950)),
        ("queue", "full:", "reading", "is", "paused"),
        (65, 660),
        "end",
        dashed=True,
    ),
    # What goes on by itself
    Arrow(
        ((MIDDLE + WIDE, 255), (632, 255), (632, 490), (OUT, 490)),
        ("ping",),
        (MIDDLE + WIDE + 3, 248),
    ),
    Arrow(
        ((MIDDLE + WIDE, 645), (632, 645), (632, 518), (OUT, 518)),
        ("pong,", "close"),
        (MIDDLE + WIDE + 6, 665),
    ),
    # Sending
    Arrow(((DOWN, 165), (DOWN, 215))),
    Arrow(((DOWN, 270), (DOWN, 335)), ("encoded,", "compressed, masked"), (DOWN + 8, 298)),
    Arrow(((DOWN, 405), (DOWN, 470))),
    Arrow(
        ((OUT + WIDE, 370), (896, 370), (896, 642), (OUT + WIDE, 642)),
        ("one", "frame"),
        (902, 500),
    ),
    Arrow(((DOWN, 540), (DOWN, 615))),
    Arrow(((DOWN, 670), (DOWN, 715))),
    Arrow(((DOWN, 785), (DOWN, 830))),
    Arrow(((DOWN, 885), (DOWN, 940))),
    Arrow(((DOWN, 1010), (DOWN, 1060))),
    Arrow(
        ((OUT, 857), (632, 857), (632, 1080), (OUT, 1080)),
        ("send(2), while the", "write buffer is empty"),
        (624, 960),
        "end",
    ),
    Arrow(
        ((OUT + WIDE, 975), (950, 975), (950, 242), (OUT + WIDE, 242)),
        ("write buffer full:", "senders wait,", "pongs are held"),
        (958, 700),
        dashed=True,
    ),
)


def draw_flow() -> str:
    drawing = Drawing(FLOW_WIDTH, FLOW_HEIGHT, "How data flows from the socket to recv() and back")
    for x, heading in [(UP, "Receiving"), (ACROSS, "By itself"), (DOWN, "Sending")]:
        drawing.label(Label(x, 40, (heading,), "middle"), 16, "bold")
    for arrow in FLOW_ARROWS:
        drawing.arrow(arrow.points, arrow.dashed)
        drawing.label(Label(*arrow.at, arrow.lines, arrow.anchor))
    for box in FLOW_BOXES:
        drawing.box(box)
    for place_in_row, (kind, meaning) in enumerate(
        [("public", "public method"), ("private", "private"), ("buffer", "buffer")]
    ):
        x = MIDDLE - 60 + 135 * place_in_row
        drawing.box(Box(kind, x, 1120, 18, 14, ""))
        drawing.label(Label(x + 25, 1132, (meaning,)))
    return drawing.text()


def draw_all() -> Iterable[tuple[str, str]]:
    """Return the drawings, each with the name of its file."""
    yield "flow.svg", draw_flow()
    yield "opening.svg", OPENING.draw()
    yield "states.svg", CLOSING.draw()
    yield "keepalive.svg", KEEPALIVE.draw()


def main() -> None:
    for name, text in draw_all():
        (DIRECTORY / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

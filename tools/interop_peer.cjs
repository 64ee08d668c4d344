// The same as interop_peer.py, on Node's ws.
"use strict";

const { WebSocket, WebSocketServer } = require("ws");
const { once } = require("node:events");

const MAX_SIZE = 16 * 2 ** 20;
const TIMEOUT = 30_000; // milliseconds, for each check

function runServer() {
  const closes = new Set();
  const server = new WebSocketServer({
    host: "127.0.0.1",
    port: 0,
    maxPayload: MAX_SIZE,
    perMessageDeflate: { threshold: 0 },
    handleProtocols: (offered) => offered.has("chat") && "chat",
  });
  server.on("listening", () => console.log(server.address().port));
  server.on("connection", (ws) => {
    ws.on("error", (error) => console.error(error.message));
    ws.on("close", (code, reason) => closes.add(`${code} ${reason}`));
    ws.on("message", (data, isBinary) => {
      const [command, code, reason] = isBinary ? [] : data.toString().split(" ");
      if (command === "/fragments") {
        ws.send("one message ", { fin: false });
        ws.send("", { fin: false });
        ws.send("in frames");
      } else if (command === "/ping") {
        ws.once("pong", (payload) => ws.send(`pong received${payload == "from the server" ? "" : "?"}`));
        ws.ping("from the server");
      } else if (command === "/close") {
        ws.close(Number(code), reason);
      } else if (command === "/seen") {
        ws.send(closes.has(`${code} ${reason}`) ? "yes" : "no");
      } else {
        ws.send(data, { binary: isBinary });
      }
    });
  });
}

function expect(found, wanted) {
  if (Buffer.compare(Buffer.from(`${found}`), Buffer.from(`${wanted}`)) !== 0) {
    throw new Error(`expected ${`${wanted}`.slice(0, 80)}, found ${`${found}`.slice(0, 80)}`);
  }
}

function checks(url, perMessageDeflate) {
  async function open(...subprotocols) {
    const ws = new WebSocket(url, subprotocols, { maxPayload: MAX_SIZE, perMessageDeflate });
    await once(ws, "open");
    expect(ws.extensions, perMessageDeflate ? "permessage-deflate" : "");
    return ws;
  }

  async function close(ws, ...args) {
    ws.close(...args);
    const [code, reason] = await once(ws, "close");
    return `${code} ${reason}`;
  }

  async function receive(ws) {
    const [data, isBinary] = await once(ws, "message");
    return isBinary ? data : data.toString();
  }

  async function echo(message) {
    const ws = await open();
    ws.send(message);
    const reply = await receive(ws);
    expect(typeof reply, typeof message);
    if (typeof message === "string") expect(reply, message);
    else expect(Buffer.compare(reply, message), 0);
    expect(await close(ws, 1000, ""), "1000 ");
  }

  async function seen(wanted) {
    // The server takes note when TCP ends, perhaps after the client.
    for (let i = 0; i < 100; i++) {
      const ws = await open();
      ws.send(`/seen ${wanted}`);
      const answer = await receive(ws);
      await close(ws, 1000);
      if (answer === "yes") return;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    throw new Error("the server did not see the code and the reason");
  }

  return {
    text: () => echo("Grüße, 世界 🌍"),
    binary: () => echo(Buffer.from(Array.from({ length: 256 }, (_, i) => i))),
    empty: async () => {
      await echo("");
      await echo(Buffer.alloc(0));
    },
    boundary_sizes: async () => {
      for (const size of [125, 126, 127, 65535, 65536]) await echo(Buffer.alloc(size, "x"));
    },
    large_text: () => echo("Grüße, 世界 🌍 ".repeat(150_000)),
    large_binary: () => echo(Buffer.alloc(5 * 2 ** 20, "0123456789abcdef!")),
    send_fragments: async () => {
      const ws = await open();
      ws.send("one ", { fin: false });
      const pong = once(ws, "pong");
      ws.ping();
      ws.send("", { fin: false });
      await pong;
      ws.send("message");
      expect(await receive(ws), "one message");
      await close(ws, 1000);
    },
    receive_fragments: async () => {
      const ws = await open();
      ws.send("/fragments");
      expect(await receive(ws), "one message in frames");
      await close(ws, 1000);
    },
    many_messages: async () => {
      const ws = await open();
      const messages = Array.from({ length: 2000 }, (_, n) => `${n}`.repeat(n % 200));
      const replies = [];
      const all = new Promise((resolve) =>
        ws.on("message", (data) => replies.push(data.toString()) === messages.length && resolve()),
      );
      messages.forEach((message) => ws.send(message));
      await all;
      expect(JSON.stringify(replies), JSON.stringify(messages));
      await close(ws, 1000);
    },
    client_pings: async () => {
      const ws = await open();
      ws.ping("from the client");
      const [payload] = await once(ws, "pong");
      expect(payload, "from the client");
      await close(ws, 1000);
    },
    server_pings: async () => {
      const ws = await open();
      ws.send("/ping");
      expect(await receive(ws), "pong received");
      await close(ws, 1000);
    },
    client_closes: async () => {
      expect(await close(await open(), 4321, "möglich"), "4321 möglich");
      await seen("4321 möglich");
    },
    client_closes_without_code: async () => {
      expect(await close(await open()), "1005 ");
      await seen("1005 ");
    },
    server_closes: async () => {
      for (const code of [1000, 1001, 1011, 3000, 4999]) {
        const ws = await open();
        ws.send(`/close ${code} möglich`);
        const [found, reason] = await once(ws, "close");
        expect(`${found} ${reason}`, `${code} möglich`);
      }
    },
    subprotocol: async () => {
      const ws = await open("unknown", "chat");
      expect(ws.protocol, "chat");
      await close(ws, 1000);
    },
    no_subprotocol: async () => {
      const ws = await open();
      expect(ws.protocol, "");
      await close(ws, 1000);
    },
    one_connection: async () => {
      // What was sent before is, or is not, in the window when it comes again.
      const text = Array.from({ length: 1000 }, (_, n) => `${n} in the window, `).join("");
      const ws = await open();
      for (const message of [text, text, "", `${text}${text}`, text]) {
        ws.send(message);
        expect(await receive(ws), message);
      }
      ws.send(text, { fin: false });
      ws.send("", { fin: false });
      ws.send(text);
      expect(await receive(ws), `${text}${text}`);
      ws.send("/fragments");
      expect(await receive(ws), "one message in frames");
      await close(ws, 1000);
    },
  };
}

async function runClient(url) {
  const alone = { serverNoContextTakeover: true, clientNoContextTakeover: true };
  const small = { serverMaxWindowBits: 9, clientMaxWindowBits: 9 };
  const plain = checks(url, false);
  const compressed = checks(url, { threshold: 0 });
  const all = [
    ...Object.entries(plain).map(([name, check]) => [`plain ${name}`, check]),
    ...Object.entries(compressed).map(([name, check]) => [`compressed ${name}`, check]),
    ["alone one_connection", checks(url, { threshold: 0, ...alone }).one_connection],
    ["small one_connection", checks(url, { threshold: 0, ...small }).one_connection],
  ];
  for (const [name, check] of all) {
    let timer;
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error("timed out")), TIMEOUT);
    });
    try {
      await Promise.race([check(), late]);
      console.log(`${name} ok`);
    } catch (error) {
      process.exitCode = 1;
      console.log(`${name} FAILED: ${error.message}`);
    }
    clearTimeout(timer);
  }
  process.exit();
}

console.log(`ws ${require("ws/package.json").version}`);
if (process.argv[2] === "server") runServer();
else runClient(process.argv[3]);

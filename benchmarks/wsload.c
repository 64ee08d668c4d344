/* wsload: a WebSocket load generator and a WebSocket echo server in one small C program.
 *
 * Clients; each opens -c connections, and HOST is an IPv4 address:
 *   wsload load HOST PORT    keeps -w messages of -s bytes (-t: text) in flight on each (1 = ping-pong)
 *   wsload flood HOST PORT   sends them as fast as the socket takes them, and drops what comes back
 *   wsload drain HOST PORT   receives as fast as it can
 *   wsload crowd HOST PORT   the first connection sends a message that the server sends to all; when all
 *                            have it, the next one: counts messages received, times whole rounds
 *   wsload open HOST PORT    opens them, -w handshakes in flight, and keeps them until standard input ends;
 *                            with -n, each gets the answers to so many messages first, one at a time
 * Servers; when PORT is 0 the system chooses one, and it is printed:
 *   wsload echo HOST PORT    sends every data message back, answers pings and closes
 *   wsload sink HOST PORT    drops what it receives
 *   wsload feed HOST PORT    sends text messages of -s bytes, JSON objects, 16 at a time, as fast as the
 *                            socket takes them
 *
 * A client prints one line of JSON. Its measurement begins after a warm-up of -u seconds and lasts -d
 * seconds. With -p PID it includes the CPU time, user and system, that the process spent meanwhile. With -x
 * EXTENSIONS it offers these (Sec-WebSocket-Extensions). With -f FILE its messages are frames from there: their
 * number, of how many the first ones are sent once, then each one's length and bytes, numbers of 32 bits, little
 * endian. After the last one, it goes on behind those that are sent once: what is compressed with context takeover
 * repeats from the second time on. What is received is counted, whatever it is.
 * All use one thread and epoll, so on two cores neither starves the Python process measured.
 *
 * Build: cc -O2 -o wsload wsload.c
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define DIE(...) do { fprintf(stderr, __VA_ARGS__); fputc('\n', stderr); exit(1); } while (0)

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

/* CPU time of another process: the clock that clock_getcpuclockid(3) names, in nanoseconds and not in ticks. */
static double cpu(pid_t pid) {
    struct timespec t;
    if (!pid) return 0;
    if (clock_gettime((~(clockid_t)pid << 3) | 2, &t)) DIE("no CPU clock of process %d: %s", pid, strerror(errno));
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static void nonblocking(int fd) {
    int one = 1;
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

/* A growable byte queue. */
struct buf { uint8_t *p; size_t start, end, cap; };

static uint8_t *buf_reserve(struct buf *b, size_t n) {
    if (b->start == b->end) b->start = b->end = 0;
    if (b->end + n > b->cap) {
        if (b->start) { memmove(b->p, b->p + b->start, b->end - b->start); b->end -= b->start; b->start = 0; }
        if (b->end + n > b->cap) {
            b->cap = (b->end + n) * 2;
            if (!(b->p = realloc(b->p, b->cap))) DIE("out of memory");
        }
    }
    return b->p + b->end;
}

static int buf_flush(struct buf *b, int fd) {              /* 1: all written, 0: blocked, -1: error */
    while (b->start < b->end) {
        ssize_t n = send(fd, b->p + b->start, b->end - b->start, MSG_NOSIGNAL);
        if (n < 0) return (errno == EAGAIN) ? 0 : -1;
        b->start += n;
    }
    return 1;
}

/* Parses a frame header. Returns its length, or 0 when more bytes are needed. */
static size_t header(const uint8_t *p, size_t n, uint64_t *len, int *masked) {
    if (n < 2) return 0;
    size_t h = 2;
    *masked = p[1] >> 7;
    *len = p[1] & 127;
    if (*len == 126) { if (n < 4) return 0; *len = (uint64_t)p[2] << 8 | p[3]; h = 4; }
    else if (*len == 127) {
        if (n < 10) return 0;
        *len = 0;
        for (int i = 2; i < 10; i++) *len = *len << 8 | p[i];
        h = 10;
    }
    h += *masked ? 4 : 0;
    return n < h ? 0 : h;
}

static size_t put_header(uint8_t *p, int opcode, uint64_t len, int masked) {
    size_t h = 2;
    p[0] = 0x80 | opcode;
    if (len < 126) p[1] = len;
    else if (len < 65536) { p[1] = 126; p[2] = len >> 8; p[3] = len; h = 4; }
    else { p[1] = 127; for (int i = 0; i < 8; i++) p[2 + i] = len >> (56 - 8 * i); h = 10; }
    if (masked) p[1] |= 0x80;
    return h;
}

/* --------------------------------------------------------------- clients */

static struct {
    const char *host, *extensions, *file; int port, conns, window, text, messages; size_t size; double seconds, warmup; pid_t pid;
} opt = {.conns = 1, .window = 1, .size = 64, .seconds = 3, .warmup = 0.3};

/* What is received is only counted: frames are passed over, wherever the reads cut them. */
struct rx { uint64_t skip; uint8_t head[14]; int have, counting; };
struct conn { int fd, want_write; struct buf out; struct rx rx; double *sent; int next; uint32_t frame; };

static uint64_t payload;                                    /* bytes of messages received */

static int consume(struct rx *r, const uint8_t *p, size_t n) {          /* returns messages completed */
    int whole = 0;
    while (n) {
        if (r->skip) {
            size_t s = r->skip < n ? r->skip : n;
            p += s; n -= s;
            if (!(r->skip -= s)) whole += r->counting;
            continue;
        }
        uint64_t len; int masked;
        r->head[r->have++] = *p++; n--;
        if (!header(r->head, r->have, &len, &masked)) continue;
        int op = r->head[0] & 15;
        if (op == 8) DIE("the server closed the connection");
        if (op < 8) payload += len;
        r->have = 0; r->skip = len; r->counting = r->head[0] >> 7 && op < 8;
        if (!len) whole += r->counting;
    }
    return whole;
}

static uint32_t *lat; static size_t nlat, caplat;

static void record(double seconds) {
    if (nlat == caplat) { caplat = caplat ? caplat * 2 : 1 << 20; lat = realloc(lat, caplat * sizeof *lat); }
    double ns = seconds * 1e9;
    lat[nlat++] = ns > 4e9 ? 4000000000u : (uint32_t)ns;
}
static int cmp(const void *a, const void *b) { uint32_t x = *(uint32_t *)a, y = *(uint32_t *)b; return (x > y) - (x < y); }
static double percentile(double q) { return nlat ? lat[(size_t)((nlat - 1) * q)] / 1e3 : 0; }

static void report(uint64_t messages, double took, double spent) {
    if (opt.pid && spent <= 0) DIE("process %d has done nothing", opt.pid);
    qsort(lat, nlat, sizeof *lat, cmp);
    printf("{\"messages\": %llu, \"seconds\": %.3f, \"msgs_per_s\": %.0f, \"MB_per_s\": %.1f", (unsigned long long)messages,
           took, messages / took, messages * opt.size / took / 1e6);
    if (opt.pid) printf(", \"cpu_us\": %.4f", spent / messages * 1e6);
    if (opt.file) printf(", \"reply_bytes\": %.1f", (double)payload / messages);
    if (nlat) printf(", \"p50_us\": %.1f, \"p99_us\": %.1f", percentile(.5), percentile(.99));
    printf("}\n");
    fflush(stdout);
}

/* The messages to send, as frames; a connection begins with the first. */
static struct { uint32_t count, once; uint8_t **frame; uint32_t *length; size_t longest; } stock;

static uint32_t number(FILE *f) {
    uint8_t b[4];
    if (fread(b, 1, 4, f) != 4) DIE("%s ends early", opt.file);
    return b[0] | b[1] << 8 | b[2] << 16 | (uint32_t)b[3] << 24;
}

static void stock_up(void) {
    FILE *f = opt.file ? fopen(opt.file, "rb") : NULL;
    if (opt.file && !f) DIE("cannot open %s: %s", opt.file, strerror(errno));
    stock.count = f ? number(f) : 1;
    stock.once = f ? number(f) : 0;
    if (stock.once >= stock.count) DIE("%s has nothing to repeat", opt.file);
    stock.frame = calloc(stock.count, sizeof *stock.frame);
    stock.length = calloc(stock.count, sizeof *stock.length);
    for (uint32_t i = 0; f && i < stock.count; i++) {
        stock.length[i] = number(f);
        stock.frame[i] = malloc(stock.length[i]);
        if (fread(stock.frame[i], 1, stock.length[i], f) != stock.length[i]) DIE("%s ends early", opt.file);
    }
    if (f) fclose(f);
    else {
        uint8_t *frame = stock.frame[0] = malloc(opt.size + 14), key[4] = {0x12, 0x34, 0x56, 0x78};
        size_t h = put_header(frame, opt.text ? 1 : 2, opt.size, 1);
        memcpy(frame + h, key, 4);
        for (size_t i = 0; i < opt.size; i++) frame[h + 4 + i] = ('a' + i % 26) ^ key[i % 4];
        stock.length[0] = h + 4 + opt.size;
    }
    for (uint32_t i = 0; i < stock.count; i++) if (stock.length[i] > stock.longest) stock.longest = stock.length[i];
}

static void put_message(struct conn *c) {
    uint32_t length = stock.length[c->frame];
    memcpy(buf_reserve(&c->out, length), stock.frame[c->frame], length);
    c->out.end += length;
    if (++c->frame == stock.count) c->frame = stock.once;
}

static int dial(void) {                                     /* connects and sends the request */
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(opt.port)};
    struct linger reset = {1, 0};                           /* thousands of connections must not linger */
    inet_pton(AF_INET, opt.host, &a.sin_addr);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0) DIE("socket: %s", strerror(errno));
    if (connect(fd, (void *)&a, sizeof a)) DIE("cannot connect to %s:%d: %s", opt.host, opt.port, strerror(errno));
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    char req[512];
    int n = snprintf(req, sizeof req,
        "GET / HTTP/1.1\r\nHost: %s:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n%s%s%s\r\n", opt.host, opt.port,
        opt.extensions ? "Sec-WebSocket-Extensions: " : "", opt.extensions ? opt.extensions : "", opt.extensions ? "\r\n" : "");
    if (n >= (int)sizeof req) DIE("the request is too long");
    if (write(fd, req, n) != n) DIE("short write");
    return fd;
}

static void answered(int fd) {                              /* reads the response, and not what follows it */
    char res[8192], *end = NULL;
    while (!end) {
        ssize_t n = recv(fd, res, sizeof res, MSG_PEEK);
        if (n <= 0) DIE("handshake failed");
        end = memmem(res, n, "\r\n\r\n", 4);
        if (!end && n == sizeof res) DIE("handshake failed");
    }
    if (memcmp(res, "HTTP/1.1 101", 12)) DIE("handshake refused: %.*s", 60, res);
    if (opt.extensions && !memmem(res, end - res, "permessage-deflate", 18)) DIE("no compression was negotiated");
    if (read(fd, res, end + 4 - res) < 0) DIE("handshake failed");
    nonblocking(fd);
}

static void dial_all(int *fds, int n, int inflight) {
    for (int i = 0; i < n; i += inflight) {
        int end = i + inflight < n ? i + inflight : n;
        for (int k = i; k < end; k++) fds[k] = dial();
        for (int k = i; k < end; k++) answered(fds[k]);
    }
}

/* Sends messages on a connection, each when the answer to the last one has come. */
static void converse(int fd) {
    static uint8_t in[65536];
    struct conn c = {.fd = fd};
    for (int i = 0; i < opt.messages; i++) {
        put_message(&c);
        for (int whole = 0; !whole;) {
            int w = buf_flush(&c.out, fd);
            if (w < 0) DIE("send: %s", strerror(errno));
            struct pollfd p = {fd, POLLIN | (w ? 0 : POLLOUT), 0};
            if (poll(&p, 1, 20000) < 1) DIE("no answer");
            ssize_t r = recv(fd, in, sizeof in, 0);
            if (r == 0 || (r < 0 && errno != EAGAIN)) DIE("connection lost");
            if (r > 0) whole = consume(&c.rx, in, r);
        }
    }
    free(c.out.p);
}

/* Memory an idle connection costs, and what it takes to open one. */
static int open_only(void) {
    int *fds = calloc(opt.conns, sizeof *fds);
    double spent = cpu(opt.pid), start = now();
    dial_all(fds, opt.conns, opt.window);
    for (int i = 0; opt.messages && i < opt.conns; i++) converse(fds[i]);
    report(opt.conns, now() - start, cpu(opt.pid) - spent);
    char c;
    while (read(0, &c, 1) > 0) ;
    return 0;
}

enum mode { LOAD, FLOOD, DRAIN, CROWD };

static int load(enum mode mode) {
    size_t chunk = 262144, batch = mode == FLOOD ? 1 + 16384 / stock.longest : 1;
    uint8_t *in = malloc(chunk);
    int ep = epoll_create1(0), *fds = calloc(opt.conns, sizeof *fds), owed = 0;
    struct conn *cs = calloc(opt.conns, sizeof *cs);
    dial_all(fds, opt.conns, 16);
    double warm = now() + opt.warmup, end = warm, start = 0, spent = 0, round = now(), t;
    /* Messages in flight at the beginning and at the end are a small part, however slow the server is. */
    uint64_t done = 0, least = mode == LOAD ? 20 * (uint64_t)opt.conns * opt.window : 1;
    int over = mode != CROWD;                               /* which is measured in whole rounds */
    for (int i = 0; i < opt.conns; i++) {
        struct conn *c = &cs[i];
        int first = mode == LOAD ? opt.window : mode == CROWD ? i == 0 : mode == FLOOD;
        c->fd = fds[i];
        c->sent = calloc(opt.window, sizeof(double));
        for (int k = 0; k < first; k++) {
            put_message(c);
            c->sent[k % opt.window] = now();
        }
        if (buf_flush(&c->out, c->fd) < 0) DIE("send: %s", strerror(errno));
        c->want_write = mode == FLOOD || c->out.start < c->out.end;
        struct epoll_event ev = {.events = EPOLLIN | (c->want_write ? EPOLLOUT : 0), .data.ptr = c};
        epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &ev);
    }
    owed = opt.conns;
    struct epoll_event evs[256];
    while ((t = now()) < end || !start || done < least || !over) {
        if (t > end + 20) DIE("nothing was received");
        if (!start && t >= warm && mode != CROWD) { start = t; end = t + opt.seconds; spent = cpu(opt.pid); done = nlat = payload = 0; }
        int n = epoll_wait(ep, evs, 256, 100);
        for (int e = 0; e < n; e++) {
            struct conn *c = evs[e].data.ptr;
            if (evs[e].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
                ssize_t r = recv(c->fd, in, chunk, 0);
                if (r == 0 || (r < 0 && errno != EAGAIN)) DIE("connection lost after %llu messages", (unsigned long long)done);
                int whole = r > 0 ? consume(&c->rx, in, r) : 0;
                double tr = now();
                if (mode != FLOOD) done += whole;
                if (mode == CROWD) {
                    owed -= whole;
                    if (owed < 0) DIE("more messages than were sent");
                    if (!owed) {                                     /* everyone has it: next round */
                        if (start) record(tr - round);
                        if (start && tr >= end) { over = 1; break; }
                        if (!start && tr >= warm) { start = tr; end = tr + opt.seconds; spent = cpu(opt.pid); done = nlat = payload = 0; }
                        round = tr; owed = opt.conns;
                        put_message(cs);
                        if (buf_flush(&cs->out, cs->fd) < 0) DIE("send: %s", strerror(errno));
                        if (cs->out.start < cs->out.end) DIE("the server does not read");
                    }
                }
                for (; mode == LOAD && whole; whole--) {
                    if (start) record(tr - c->sent[c->next]);
                    c->sent[c->next] = tr;
                    c->next = (c->next + 1) % opt.window;
                    put_message(c);
                }
            }
            if (mode == FLOOD && c->out.start == c->out.end)
                for (size_t i = 0; i < batch; i++, done++) put_message(c);
            int w = buf_flush(&c->out, c->fd);
            if (w < 0) DIE("send: %s", strerror(errno));
            int want = mode == FLOOD || w == 0;
            if (want != c->want_write) {
                c->want_write = want;
                struct epoll_event ev = {.events = EPOLLIN | (want ? EPOLLOUT : 0), .data.ptr = c};
                epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &ev);
            }
        }
    }
    report(done, now() - start, cpu(opt.pid) - spent);
    return 0;
}

/* ----------------------------------------------------------------- servers */

struct peer { int fd, open, want_write; struct buf in, out; };

/* Base64 of the SHA-1 (FIPS 180-4) of less than 2^16 bytes: all that the handshake needs (RFC 6455 section 4.2.2). */
static uint32_t rotate(uint32_t x, int n) { return x << n | x >> (32 - n); }

static void sha1_base64(const char *text, char out[29]) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint32_t h[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
    uint8_t block[64], sum[21] = {0};
    size_t n = strlen(text), end = (n + 8) / 64 * 64 + 64;         /* with the bit 1, zeros and the length */
    for (size_t at = 0; at < end; at += 64) {
        for (size_t i = 0; i < 64; i++) block[i] = at + i < n ? text[at + i] : at + i == n ? 0x80 : 0;
        if (at + 64 == end) for (int i = 0; i < 3; i++) block[63 - i] = n * 8 >> 8 * i;
        uint32_t w[80], v[5];
        for (int i = 0; i < 16; i++)
            w[i] = (uint32_t)block[4 * i] << 24 | block[4 * i + 1] << 16 | block[4 * i + 2] << 8 | block[4 * i + 3];
        for (int i = 16; i < 80; i++) w[i] = rotate(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
        memcpy(v, h, sizeof v);
        for (int i = 0; i < 80; i++) {
            uint32_t b = v[1], c = v[2], d = v[3], f, k;
            if (i < 20) { f = (b & c) | (~b & d); k = 0x5a827999; }
            else if (i < 40) { f = b ^ c ^ d; k = 0x6ed9eba1; }
            else if (i < 60) { f = (b & c) | (b & d) | (c & d); k = 0x8f1bbcdc; }
            else { f = b ^ c ^ d; k = 0xca62c1d6; }
            uint32_t t = rotate(v[0], 5) + f + v[4] + k + w[i];
            v[4] = d; v[3] = c; v[2] = rotate(b, 30); v[1] = v[0]; v[0] = t;
        }
        for (int i = 0; i < 5; i++) h[i] += v[i];
    }
    for (int i = 0; i < 20; i++) sum[i] = h[i / 4] >> (24 - 8 * (i % 4));
    for (int i = 0; i < 7; i++) {                                   /* 20 bytes and one of padding make 28 digits */
        uint32_t x = (uint32_t)sum[3 * i] << 16 | sum[3 * i + 1] << 8 | sum[3 * i + 2];
        for (int k = 0; k < 4; k++) out[4 * i + k] = digits[x >> (18 - 6 * k) & 63];
    }
    out[27] = '='; out[28] = 0;
}

static int upgrade(struct peer *c) {
    uint8_t *p = c->in.p + c->in.start, *eoh;
    size_t n = c->in.end - c->in.start;
    if (!(eoh = memmem(p, n, "\r\n\r\n", 4))) return 0;
    *eoh = 0;
    char *k = strcasestr((char *)p, "sec-websocket-key:");
    if (!k) return -1;
    k += 18; while (*k == ' ') k++;
    char both[128]; int kl = strcspn(k, "\r\n ");
    snprintf(both, sizeof both, "%.*s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", kl, k);
    char accept[29];
    sha1_base64(both, accept);
    uint8_t *o = buf_reserve(&c->out, 512);
    c->out.end += sprintf((char *)o, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                          "Sec-WebSocket-Accept: %s\r\n\r\n", accept);
    c->in.start += eoh + 4 - p;
    c->open = 1;
    return 1;
}

/* Sixteen text frames: a trade in a market data feed, padded to the size wanted. */
static size_t trades(uint8_t **batch) {
    static const char body[] = "{\"event\": \"trade\", \"symbol\": \"BTCUSDT\", \"price\": \"67123.45000000\", \"quantity\": \"0.01500000\", "
                               "\"time\": 1760000000123, \"id\": 4123456789, \"maker\": true, \"note\": \"";
    size_t head = sizeof body - 1, n = opt.size, h, at = 0;
    if (n < head + 2) DIE("a message of the feed has at least %zu bytes", head + 2);
    *batch = malloc(16 * (n + 14));
    for (int i = 0; i < 16; i++, at += h + n) {
        uint8_t *p = *batch + at;
        h = put_header(p, 1, n, 0);
        memset(p + h, 'x', n);
        memcpy(p + h, body, head);
        memcpy(p + h + n - 2, "\"}", 2);
    }
    return at;
}

enum duty { ECHO, SINK, FEED };

static int serve(enum duty duty) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(opt.port)};
    socklen_t alen = sizeof a;
    uint8_t *batch = NULL;
    size_t nbatch = duty == FEED ? trades(&batch) : 0;
    inet_pton(AF_INET, opt.host, &a.sin_addr);
    int ls = socket(AF_INET, SOCK_STREAM, 0), one = 1, ep = epoll_create1(0);
    setsockopt(ls, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(ls, (void *)&a, sizeof a) || listen(ls, 1024) || getsockname(ls, (void *)&a, &alen))
        DIE("cannot listen on %s:%d: %s", opt.host, opt.port, strerror(errno));
    printf("%d\n", ntohs(a.sin_port));
    fflush(stdout);
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = NULL}, evs[256];
    epoll_ctl(ep, EPOLL_CTL_ADD, ls, &ev);
    for (;;) {
        int n = epoll_wait(ep, evs, 256, -1);
        for (int e = 0; e < n; e++) {
            struct peer *c = evs[e].data.ptr;
            if (!c) {
                int fd = accept(ls, NULL, NULL);
                if (fd < 0) continue;
                nonblocking(fd);
                c = calloc(1, sizeof *c); c->fd = fd;
                struct epoll_event cv = {.events = EPOLLIN, .data.ptr = c};
                epoll_ctl(ep, EPOLL_CTL_ADD, fd, &cv);
                continue;
            }
            int closing = 0;
            if (evs[e].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
                uint8_t *p = buf_reserve(&c->in, 262144);
                ssize_t r = recv(c->fd, p, 262144, 0);
                if (r == 0 || (r < 0 && errno != EAGAIN)) closing = 1;
                if (r > 0) c->in.end += r;
            }
            if (!closing && !c->open && upgrade(c) < 0) closing = 1;
            while (!closing && c->open) {
                uint64_t len; int masked;
                uint8_t *p = c->in.p + c->in.start;
                size_t avail = c->in.end - c->in.start, hl = header(p, avail, &len, &masked);
                if (!hl || avail < hl + len) break;
                int op = p[0] & 15;
                if (op != 10 && (duty == ECHO || op > 2)) {      /* pongs are dropped */
                    uint8_t *o = buf_reserve(&c->out, len + 14), *src = p + hl, *key = src - 4;
                    size_t oh = put_header(o, op == 9 ? 10 : op, len, 0);
                    o[0] = (p[0] & 0xf0) | (op == 9 ? 10 : op);   /* keep FIN and RSV */
                    uint8_t *d = o + oh;
                    if (masked) {
                        uint32_t k4; memcpy(&k4, key, 4); uint64_t k8 = (uint64_t)k4 << 32 | k4; size_t i = 0;
                        for (; i + 8 <= len; i += 8) { uint64_t v; memcpy(&v, src + i, 8); v ^= k8; memcpy(d + i, &v, 8); }
                        for (; i < len; i++) d[i] = src[i] ^ key[i & 3];
                    } else memcpy(d, src, len);
                    c->out.end += oh + len;
                }
                c->in.start += hl + len;
                if (op == 8) { closing = 1; buf_flush(&c->out, c->fd); }
            }
            if (nbatch && c->open && !closing && c->out.start == c->out.end) {
                memcpy(buf_reserve(&c->out, nbatch), batch, nbatch);
                c->out.end += nbatch;
            }
            int w = closing ? -1 : buf_flush(&c->out, c->fd);
            if (nbatch && c->open && w == 1) w = 0;              /* there is always more */
            if (w < 0) { close(c->fd); free(c->in.p); free(c->out.p); free(c); continue; }
            if ((w == 0) != c->want_write) {
                c->want_write = w == 0;
                struct epoll_event cv = {.events = EPOLLIN | (c->want_write ? EPOLLOUT : 0), .data.ptr = c};
                epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &cv);
            }
        }
    }
}

int main(int argc, char **argv) {
    static const char *names[] = {"load", "flood", "drain", "crowd", "echo", "sink", "feed", "open"};
    struct rlimit files;
    int which = 0, o;
    if (argc < 4) DIE("usage: wsload load|flood|drain|crowd|open|echo|sink|feed HOST PORT [-c connections] [-w window] "
                      "[-s bytes] [-t] [-n messages] [-f frames] [-x extensions] [-u warmup] [-d seconds] [-p pid]");
    opt.host = argv[2]; opt.port = atoi(argv[3]);
    optind = 4;
    while ((o = getopt(argc, argv, "c:w:s:d:u:p:n:f:x:t")) != -1)
        switch (o) {
        case 'c': opt.conns = atoi(optarg); break;
        case 'w': opt.window = atoi(optarg); break;
        case 's': opt.size = strtoull(optarg, 0, 0); break;
        case 'd': opt.seconds = atof(optarg); break;
        case 'u': opt.warmup = atof(optarg); break;
        case 'p': opt.pid = atoi(optarg); break;
        case 'n': opt.messages = atoi(optarg); break;
        case 'f': opt.file = optarg; break;
        case 'x': opt.extensions = optarg; break;
        case 't': opt.text = 1; break;
        default: return 1;
        }
    if (!getrlimit(RLIMIT_NOFILE, &files)) { files.rlim_cur = files.rlim_max; setrlimit(RLIMIT_NOFILE, &files); }
    while (which < 8 && strcmp(argv[1], names[which])) which++;
    if (which == 8) DIE("there is no %s", argv[1]);
    stock_up();
    return which == 7 ? open_only() : which < 4 ? load(which) : serve(which - 4);
}

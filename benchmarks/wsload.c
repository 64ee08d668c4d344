/* wsload: a WebSocket load generator and a WebSocket echo server in one small C program.
 *
 *   wsload load HOST PORT [-c connections] [-w window] [-s bytes] [-d seconds] [-t]
 *   wsload echo HOST PORT
 *   wsload feed HOST PORT [-s bytes]
 *
 * `load` opens the connections, keeps `window` messages in flight on each (1 = ping-pong), and
 * prints one JSON line: messages per second, payload MB/s and round-trip latency percentiles in
 * microseconds (`total_msgs` counts the warm-up too, for CPU time per message).  `echo` sends every data message back, answers pings and closes.  `feed` is a server
 * that sends text messages of that size to every client as fast as the socket takes them (batches of 16).
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
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define DIE(...) do { fprintf(stderr, __VA_ARGS__); fputc('\n', stderr); exit(1); } while (0)

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
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

/* ------------------------------------------------------------------ load */

struct conn { int fd, inflight, want_write; struct buf in, out; double *sent; int head; uint64_t skip; int counting; };

static uint32_t *lat; static size_t nlat, caplat;

static void record(double seconds) {
    if (nlat == caplat) { caplat = caplat ? caplat * 2 : 1 << 20; lat = realloc(lat, caplat * sizeof *lat); }
    double ns = seconds * 1e9;
    lat[nlat++] = ns > 4e9 ? 4000000000u : (uint32_t)ns;
}
static int cmp(const void *a, const void *b) { uint32_t x = *(uint32_t *)a, y = *(uint32_t *)b; return (x > y) - (x < y); }

static int dial(const char *host, int port) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
    inet_pton(AF_INET, host, &a.sin_addr);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    for (int i = 0; connect(fd, (void *)&a, sizeof a) < 0; i++) {
        if (i > 50) DIE("cannot connect to %s:%d: %s", host, port, strerror(errno));
        usleep(100000);
        close(fd); fd = socket(AF_INET, SOCK_STREAM, 0);
    }
    char req[512], res[8192]; size_t got = 0;
    int n = snprintf(req, sizeof req,
        "GET / HTTP/1.1\r\nHost: %s:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n", host, port);
    if (write(fd, req, n) != n) DIE("short write");
    while (got < 4 || memcmp(res + got - 4, "\r\n\r\n", 4)) {
        if (got + 1 >= sizeof res || read(fd, res + got, 1) != 1) DIE("handshake failed");
        got++;
    }
    if (memcmp(res, "HTTP/1.1 101", 12)) DIE("handshake refused: %.*s", 60, res);
    nonblocking(fd);
    return fd;
}

static int load(const char *host, int port, int conns, int window, size_t size, double seconds, int text) {
    size_t cap = size + 14;
    uint8_t *frame = malloc(cap), key[4] = {0x12, 0x34, 0x56, 0x78};
    size_t h = put_header(frame, text ? 1 : 2, size, 1);
    memcpy(frame + h, key, 4);
    for (size_t i = 0; i < size; i++) frame[h + 4 + i] = ('a' + i % 26) ^ key[i % 4];
    size_t flen = h + 4 + size;
    int ep = epoll_create1(0);
    struct conn *cs = calloc(conns, sizeof *cs);
    for (int i = 0; i < conns; i++) {
        struct conn *c = &cs[i];
        c->fd = dial(host, port);
        c->sent = calloc(window, sizeof(double));
        struct epoll_event ev = {.events = EPOLLIN, .data.ptr = c};
        epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &ev);
    }
    double warm = now() + (seconds < 2 ? seconds / 4 : 0.5), start = 0, end = warm + seconds;
    uint64_t done = 0, bytes = 0, total = 0;
    for (int i = 0; i < conns; i++) {
        struct conn *c = &cs[i];
        for (int k = 0; k < window; k++) { memcpy(buf_reserve(&c->out, flen), frame, flen); c->out.end += flen; c->sent[k] = now(); }
        c->inflight = window;
        if (buf_flush(&c->out, c->fd) < 0) DIE("send: %s", strerror(errno));
        if (c->out.start < c->out.end) {
            struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT, .data.ptr = c};
            epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &ev); c->want_write = 1;
        }
    }
    struct epoll_event evs[256];
    for (;;) {
        double t = now();
        if (!start && t >= warm) { start = t; done = bytes = 0; nlat = 0; }
        if (t >= end) break;
        int n = epoll_wait(ep, evs, 256, 100);
        for (int e = 0; e < n; e++) {
            struct conn *c = evs[e].data.ptr;
            if (evs[e].events & EPOLLIN) {
                size_t chunk = 262144;
                uint8_t *p = buf_reserve(&c->in, chunk);
                ssize_t r = recv(c->fd, p, chunk, 0);
                if (r == 0 || (r < 0 && errno != EAGAIN)) DIE("connection lost after %llu messages", (unsigned long long)done);
                if (r > 0) c->in.end += r;
                double tr = now();
                for (;;) {
                    size_t avail = c->in.end - c->in.start;
                    if (c->skip) {
                        size_t s = c->skip < avail ? c->skip : avail;
                        c->in.start += s; c->skip -= s;
                        if (c->skip) break;
                        if (!c->counting) continue;
                    } else {
                        uint64_t len; int masked;
                        size_t hl = header(c->in.p + c->in.start, avail, &len, &masked);
                        if (!hl) break;
                        if (masked) DIE("server masked a frame");
                        int op = c->in.p[c->in.start] & 15, fin = c->in.p[c->in.start] >> 7;
                        if (op == 8) DIE("server closed after %llu messages", (unsigned long long)done);
                        c->in.start += hl; c->skip = len;
                        c->counting = fin && op < 8;
                        if (len) continue;
                        if (!c->counting) continue;
                    }
                    /* a whole message is in */
                    c->counting = 0;
                    if (start) record(tr - c->sent[c->head]);
                    c->sent[c->head] = tr;
                    c->head = (c->head + 1) % window;
                    done++; total++; bytes += size;
                    memcpy(buf_reserve(&c->out, flen), frame, flen); c->out.end += flen;
                }
            }
            int w = buf_flush(&c->out, c->fd);
            if (w < 0) DIE("send: %s", strerror(errno));
            if ((w == 0) != c->want_write) {
                c->want_write = w == 0;
                struct epoll_event ev = {.events = EPOLLIN | (c->want_write ? EPOLLOUT : 0), .data.ptr = c};
                epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &ev);
            }
        }
    }
    double took = now() - start;
    qsort(lat, nlat, sizeof *lat, cmp);
#define PCT(q) (nlat ? lat[(size_t)((nlat - 1) * q)] / 1e3 : 0.0)
    printf("{\"connections\": %d, \"window\": %d, \"bytes\": %zu, \"seconds\": %.2f, \"total_msgs\": %llu, \"msgs_per_s\": %.0f, \"MB_per_s\": %.1f, "
           "\"p50_us\": %.1f, \"p90_us\": %.1f, \"p99_us\": %.1f, \"p999_us\": %.1f}\n",
           conns, window, size, took, (unsigned long long)total, done / took, bytes / took / 1e6, PCT(.5), PCT(.9), PCT(.99), PCT(.999));
    return 0;
}

/* ------------------------------------------------------------------ echo */

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

static int echo(const char *host, int port, size_t feed) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
    inet_pton(AF_INET, host, &a.sin_addr);
    int ls = socket(AF_INET, SOCK_STREAM, 0), one = 1, ep = epoll_create1(0);
    setsockopt(ls, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(ls, (void *)&a, sizeof a) || listen(ls, 1024)) DIE("cannot listen on %s:%d: %s", host, port, strerror(errno));
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
                if (op != 10) {                                  /* pongs are dropped */
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
            if (feed && c->open && !closing && c->out.end - c->out.start < 16 * feed)
                for (int i = 0; i < 16; i++) {
                    uint8_t *o = buf_reserve(&c->out, feed + 14);
                    size_t oh = put_header(o, 1, feed, 0);
                    memset(o + oh, 'x', feed);
                    c->out.end += oh + feed;
                }
            int w = closing ? -1 : buf_flush(&c->out, c->fd);
            if (feed && c->open && w == 1) w = 0;
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
    if (argc < 4) DIE("usage: wsload load HOST PORT [-c conns] [-w window] [-s bytes] [-d seconds] [-t] | wsload echo HOST PORT | wsload feed HOST PORT [-s bytes]");
        int conns = 1, window = 1, text = 0, o; size_t size = 64; double seconds = 3;
    optind = 4;
    while ((o = getopt(argc, argv, "c:w:s:d:t")) != -1)
        switch (o) {
        case 'c': conns = atoi(optarg); break;
        case 'w': window = atoi(optarg); break;
        case 's': size = strtoull(optarg, 0, 0); break;
        case 'd': seconds = atof(optarg); break;
        case 't': text = 1; break;
        default: DIE("unknown option");
        }
    if (!strcmp(argv[1], "echo")) return echo(argv[2], atoi(argv[3]), 0);
    if (!strcmp(argv[1], "feed")) return echo(argv[2], atoi(argv[3]), size);
    return load(argv[2], atoi(argv[3]), conns, window, size, seconds, text);
}

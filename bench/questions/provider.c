/* A model provider that costs next to nothing, so that it never limits what is measured: one thread over epoll.
 *
 *   provider EMBED_MS      listens on a free port of 127.0.0.1 and prints the port
 *
 * POST .../embeddings        1,536 dimensions for each input, made of its words, so that texts that share words are near.
 *                            One input is a question and takes EMBED_MS; several are chunks and take no time.
 * POST .../chat/completions  quotes sentences of the sources in the prompt, each less a word, as a model does not
 *                            copy, and with its citation, which quotes 5 words if the prompt asks for a quotation. The
 *                            model's name says how: "long" 300 tokens over 3 s and 6
 *                            sentences; "short" 15 tokens after 1 s and one sentence; "zero" the same without delay.
 *                            Streamed one token a chunk, or in one piece.
 * GET /stats                 CPU seconds, calls, chunks, and how late the chunks left, in ms
 * GET /embed-ms/N            sets EMBED_MS
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { DIMENSIONS = 1536, MAX_SOURCES = 64, MAX_SENTENCES = 8, PLACES_OF_A_WORD = 4, QUOTED_WORDS = 5, TOO_LONG = 64 << 20 };

typedef struct {
    char *data;
    size_t size, room;
} Buffer;

typedef struct {
    int fd, paused, place; /* place in the heap of timers, -1 when it waits for nothing */
    int64_t due;           /* ns */
    Buffer in, out;        /* out: what the socket did not take yet */
    Buffer held;           /* a whole response that leaves at `due`; or else a stream: */
    int streaming, usage, chunks, sent;
    int64_t first, step; /* ns: when the first token leaves, and the time between two */
    Buffer text;
    char model[32];
} Connection;

static int loop;
static int64_t embed_ns = 50000000;
static Connection **heap;
static int waiting, heap_room;
static struct {
    long embeddings, chats, chunks;
    double late_ms, latest_ms;
} stats;

static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void reserve(Buffer *b, size_t more) {
    if (b->size + more <= b->room) return;
    b->room = (b->size + more) * 2;
    b->data = realloc(b->data, b->room);
    if (!b->data) abort();
}

static void add(Buffer *b, const char *data, size_t size) {
    reserve(b, size);
    memcpy(b->data + b->size, data, size);
    b->size += size;
}

static void add_text(Buffer *b, const char *text) { add(b, text, strlen(text)); }

static void drop(Buffer *b) {
    free(b->data);
    memset(b, 0, sizeof *b);
}

/* --- a heap of connections by the time at which they go on */

static void put(int place, Connection *c) { heap[place] = c, c->place = place; }

static void settle(int place) {
    Connection *c = heap[place];
    while (place && heap[(place - 1) / 2]->due > c->due) put(place, heap[(place - 1) / 2]), place = (place - 1) / 2;
    for (;;) {
        int child = 2 * place + 1;
        if (child + 1 < waiting && heap[child + 1]->due < heap[child]->due) child++;
        if (child >= waiting || heap[child]->due >= c->due) break;
        put(place, heap[child]), place = child;
    }
    put(place, c);
}

static void wait_until(Connection *c, int64_t due) {
    c->due = due;
    if (c->place < 0) {
        if (waiting == heap_room) heap = realloc(heap, (heap_room = heap_room * 2 + 64) * sizeof *heap);
        put(waiting++, c);
    }
    settle(c->place);
}

static void stop_waiting(Connection *c) {
    int place = c->place;
    if (place < 0) return;
    c->place = -1;
    if (place != --waiting) put(place, heap[waiting]), settle(place);
}

/* --- sending */

static void end_connection(Connection *c) {
    stop_waiting(c);
    close(c->fd);
    drop(&c->in), drop(&c->out), drop(&c->held), drop(&c->text);
    free(c);
}

/* Sends, and keeps what the socket does not take. Returns 0 when the other side is gone. */
static int send_now(Connection *c, const char *data, size_t size) {
    ssize_t sent = 0;
    if (!c->out.size) {
        sent = send(c->fd, data, size, MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN) return 0;
        if (sent < 0) sent = 0;
    }
    if ((size_t)sent < size) {
        add(&c->out, data + sent, size - sent);
        struct epoll_event e = {.events = EPOLLIN | EPOLLOUT, .data.ptr = c};
        epoll_ctl(loop, EPOLL_CTL_MOD, c->fd, &e);
    }
    return 1;
}

static void respond(Connection *c, const Buffer *body, int64_t due) {
    char head[160];
    c->held.size = 0;
    add(&c->held, head,
        sprintf(head, "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %zu\r\n\r\n", body->size));
    add(&c->held, body->data, body->size);
    wait_until(c, due);
}

/* --- JSON: enough of it for these requests */

static const char *blank(const char *p) {
    while (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t') p++;
    return p;
}

static const char *skip(const char *p) { /* past a value */
    int depth = 0;
    for (p = blank(p); *p; p++) {
        if (*p == '"') {
            for (p++; *p && *p != '"'; p++)
                if (*p == '\\' && p[1]) p++;
            if (!*p) return p;
            if (!depth) return p + 1;
        } else if (*p == '{' || *p == '[') {
            depth++;
        } else if (*p == '}' || *p == ']') {
            if (!depth) return p;
            if (!--depth) return p + 1;
        } else if (*p == ',' && !depth) {
            return p;
        }
    }
    return p;
}

static void add_code_point(Buffer *b, unsigned c) {
    char o[4];
    int n = 0;
    if (c < 0x80) o[n++] = c;
    else if (c < 0x800) o[n++] = 0xC0 | c >> 6, o[n++] = 0x80 | (c & 63);
    else if (c < 0x10000) o[n++] = 0xE0 | c >> 12, o[n++] = 0x80 | (c >> 6 & 63), o[n++] = 0x80 | (c & 63);
    else o[n++] = 0xF0 | c >> 18, o[n++] = 0x80 | (c >> 12 & 63), o[n++] = 0x80 | (c >> 6 & 63), o[n++] = 0x80 | (c & 63);
    add(b, o, n);
}

static unsigned hex4(const char *p) {
    char four[5] = {0};
    memcpy(four, p, 4);
    return strtoul(four, NULL, 16);
}

/* Appends the text of a string to `b`; returns the place behind it. */
static const char *string(const char *p, Buffer *b) {
    for (p++; *p && *p != '"'; p++) {
        if (*p != '\\') {
            add(b, p, 1);
            continue;
        }
        p++;
        if (*p == 'u' && strlen(p) > 4) {
            unsigned c = hex4(p + 1);
            p += 4;
            if (c >= 0xD800 && c < 0xDC00 && p[1] == '\\' && p[2] == 'u') {
                c = 0x10000 + ((c - 0xD800) << 10) + (hex4(p + 3) - 0xDC00);
                p += 6;
            }
            add_code_point(b, c);
        } else {
            const char *at = strchr("n\nt\tr\rb\bf\f", *p);
            add(b, at ? at + 1 : p, 1);
        }
    }
    return *p ? p + 1 : p;
}

/* Returns the value of a key of an object, or NULL. */
static const char *value(const char *p, const char *key) {
    size_t size = strlen(key);
    p = blank(p);
    if (*p != '{') return NULL;
    for (p = blank(p + 1); *p == '"'; p = blank(p)) {
        const char *name = p + 1, *end = skip(p);
        p = blank(end);
        if (*p != ':') return NULL;
        p = blank(p + 1);
        if ((size_t)(end - 1 - name) == size && !memcmp(name, key, size)) return p;
        p = blank(skip(p));
        if (*p != ',') return NULL;
        p++;
    }
    return NULL;
}

static int is_true(const char *object, const char *key) {
    const char *p = value(object, key);
    return p && !strncmp(p, "true", 4);
}

/* --- embeddings */

static void embed(const char *text, float *vector) {
    double sum = 0;
    memset(vector, 0, DIMENSIONS * sizeof *vector);
    for (const char *p = text; *p;) {
        uint64_t hash = 1469598103934665603ULL;
        const char *begin = p;
        for (; isalnum((unsigned char)*p) || (unsigned char)*p > 127; p++)
            hash = (hash ^ tolower((unsigned char)*p)) * 1099511628211ULL;
        /* Short words are mostly function words. */
        float weight = p - begin < 4 ? 0.3f : 1.0f;
        for (int n = 0; p > begin && n < PLACES_OF_A_WORD; n++) {
            hash = (hash ^ (hash >> 29)) * 0xBF58476D1CE4E5B9ULL;
            vector[(hash >> 33) % DIMENSIONS] += hash & 1024 ? weight : -weight;
        }
        if (p == begin) p++;
    }
    for (int i = 0; i < DIMENSIONS; i++) sum += vector[i] * vector[i];
    if (sum == 0) vector[0] = 1, sum = 1;
    for (int i = 0; i < DIMENSIONS; i++) vector[i] /= sqrt(sum);
}

static void add_base64(Buffer *b, const unsigned char *p, size_t size) { /* size is a multiple of 3 */
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    reserve(b, size / 3 * 4);
    for (char *o = b->data + b->size; size; p += 3, size -= 3, b->size += 4) {
        *o++ = digits[p[0] >> 2], *o++ = digits[(p[0] & 3) << 4 | p[1] >> 4];
        *o++ = digits[(p[1] & 15) << 2 | p[2] >> 6], *o++ = digits[p[2] & 63];
    }
}

static void add_embedding(Buffer *body, const char *text, int index, int base64) {
    float vector[DIMENSIONS];
    char piece[80];
    embed(text, vector);
    add(body, piece,
        sprintf(piece, "%s{\"object\":\"embedding\",\"index\":%d,\"embedding\":", index ? "," : "", index));
    if (base64) {
        add_text(body, "\"");
        add_base64(body, (unsigned char *)vector, sizeof vector);
        add_text(body, "\"}");
        return;
    }
    for (int i = 0; i < DIMENSIONS; i++) add(body, piece, sprintf(piece, "%c%.7g", i ? ',' : '[', vector[i]));
    add_text(body, "]}");
}

static void embeddings(Connection *c, const char *request) {
    const char *format = value(request, "encoding_format"), *p = value(request, "input");
    int base64 = format && !strncmp(format, "\"base64\"", 8), count = 0;
    Buffer body = {0}, text = {0};
    add_text(&body, "{\"object\":\"list\",\"model\":\"stub\",\"data\":[");
    int many = p && *p == '[';
    for (p = p && many ? blank(p + 1) : p; p && *p == '"'; count++) {
        text.size = 0;
        p = blank(string(p, &text));
        add(&text, "", 1);
        add_embedding(&body, text.data, count, base64);
        if (!many || *p != ',') break;
        p = blank(p + 1);
    }
    add_text(&body, "],\"usage\":{\"prompt_tokens\":9,\"total_tokens\":9}}");
    stats.embeddings++;
    respond(c, &body, now() + (count > 1 ? 0 : embed_ns));
    drop(&body), drop(&text);
}

/* --- chat */

typedef struct {
    const char *text;
    size_t size;
} Span;

/* Finds the texts between <source… n="1"> and </source, without their head, which ends at an empty line. */
static int find_sources(const char *prompt, Span *sources) {
    int count = 0;
    for (const char *p = prompt; count < MAX_SOURCES && (p = strstr(p, "<source"));) {
        const char *tag = strchr(p, '>'), *end = tag ? strstr(tag, "</source") : NULL;
        const char *number = tag ? memmem(p, tag - p, " n=\"", 4) : NULL;
        if (!end) break;
        p++;
        if (!number) continue; /* the rules name the tag, too */
        const char *text = memmem(tag, end - tag, "\n\n", 2);
        text = text ? text + 2 : tag + 1;
        sources[count++] = (Span){text, end - text};
        p = end;
    }
    return count;
}

/* Returns the sentence of a source that is nearest to `wanted` characters and not yet used; size 0 when there is none. */
static Span pick_sentence(Span source, size_t wanted, const Span *used, int uses) {
    Span best = {0};
    size_t distance = SIZE_MAX, start = SIZE_MAX; /* The source may begin in the middle of a sentence. */
    for (size_t i = 0; i + 1 < source.size; i++) {
        int ends = source.text[i] == '.' && isspace((unsigned char)source.text[i + 1]);
        if (!ends) continue;
        size_t next = i + 1;
        while (next < source.size && isspace((unsigned char)source.text[next])) next++;
        if (start != SIZE_MAX) {
            Span found = {source.text + start, i + 1 - start};
            size_t off = found.size > wanted ? found.size - wanted : wanted - found.size;
            int taken = memmem(found.text, found.size, "\n\n", 2) != NULL;
            for (int n = 0; n < uses; n++) taken |= used[n].size == found.size && !memcmp(used[n].text, found.text, found.size);
            if (!taken && off < distance) distance = off, best = found;
        }
        start = isupper((unsigned char)source.text[next]) ? next : SIZE_MAX;
    }
    return best;
}

static void add_line(Buffer *b, Span span) { /* on one line */
    for (size_t i = 0; i < span.size; i++) {
        int space = isspace((unsigned char)span.text[i]);
        if (space && i + 1 < span.size && isspace((unsigned char)span.text[i + 1])) continue;
        add(b, space ? " " : span.text + i, 1);
    }
}

/* Returns the place of a word in the second half of a sentence that it can do without: a model does not copy exactly. */
static Span spare_word(Span sentence) {
    for (size_t i = sentence.size / 2; i < sentence.size; i++) {
        size_t end = i + 1;
        if (!isspace((unsigned char)sentence.text[i])) continue;
        while (end < sentence.size && islower((unsigned char)sentence.text[end])) end++;
        int negates = sentence.text[i + 1] == 'n' || sentence.text[i + 1] == 'w'; /* never, nothing, without */
        if (end < sentence.size && isspace((unsigned char)sentence.text[end]) && end - i > 4 && !negates)
            return (Span){sentence.text + i, end - i};
    }
    return (Span){sentence.text + sentence.size, 0};
}

/* Returns the first words of a sentence that hold no quote. */
static Span first_words(Span sentence, int words) {
    size_t i = 0;
    for (; i < sentence.size && sentence.text[i] != '"'; i++)
        if (isspace((unsigned char)sentence.text[i]) && !--words) break;
    return (Span){sentence.text, i};
}

static void write_answer(Buffer *answer, const char *prompt, int sentences) {
    Span sources[MAX_SOURCES], used[MAX_SENTENCES];
    int count = find_sources(prompt, sources), done = 0, quotes = strstr(prompt, "[1 \"") != NULL;
    for (int turn = 0; count && done < sentences && turn < 4 * sentences; turn++) {
        int n = turn % count;
        Span sentence = pick_sentence(sources[n], 190, used, done);
        if (!sentence.size) continue;
        char mark[24];
        used[done++] = sentence;
        if (answer->size) add_text(answer, " ");
        sentence.size--; /* the full stop follows the mark */
        Span spare = spare_word(sentence);
        const char *rest = spare.text + spare.size;
        add_line(answer, (Span){sentence.text, spare.text - sentence.text});
        add_line(answer, (Span){rest, sentence.text + sentence.size - rest});
        add(answer, mark, sprintf(mark, quotes ? " [%d \"" : " [%d", n + 1));
        if (quotes) add_line(answer, first_words(sentence, QUOTED_WORDS)), add_text(answer, "\"");
        add_text(answer, "].");
    }
    if (!done) add_text(answer, "[NO ANSWER] The sources do not say this.");
}

static void add_json_text(Buffer *b, const char *text, size_t size) {
    char escaped[8];
    for (size_t i = 0; i < size; i++) {
        unsigned char c = text[i];
        if (c == '"' || c == '\\' || c < 32) add(b, escaped, sprintf(escaped, c < 32 ? "\\u%04x" : "\\%c", c));
        else add(b, text + i, 1);
    }
}

static const char *USAGE = "{\"prompt_tokens\":1500,\"completion_tokens\":300,\"total_tokens\":1800}";

/* Appends one event of the stream in an HTTP chunk of its own, as OpenAI's look. */
static void add_event(Buffer *b, Connection *c, const char *delta, size_t size, const char *finish, int last) {
    Buffer event = {0};
    char piece[400];
    add(&event, piece,
        sprintf(piece,
                "data: {\"id\":\"chatcmpl-CfKqW2b7Xv0mN4sT8dLh1yRzAe\",\"object\":\"chat.completion.chunk\",\"created\":1764374400,"
                "\"model\":\"%s\",\"service_tier\":\"default\",\"system_fingerprint\":\"fp_4c2851f862\",\"choices\":[",
                c->model));
    if (!last) {
        add_text(&event, "{\"index\":0,\"delta\":{");
        add(&event, delta, size);
        add(&event, piece, sprintf(piece, "},\"logprobs\":null,\"finish_reason\":%s}", finish));
    }
    add_text(&event, "]");
    if (c->usage) add(&event, piece, sprintf(piece, ",\"usage\":%s", last ? USAGE : "null"));
    add_text(&event, ",\"obfuscation\":\"k2J9wQx\"}\n\n");
    add(b, piece, sprintf(piece, "%zx\r\n", event.size));
    add(b, event.data, event.size);
    add_text(b, "\r\n");
    drop(&event);
}

static void add_token(Buffer *b, Connection *c) {
    Buffer delta = {0};
    size_t begin = c->text.size * c->sent / c->chunks, end = c->text.size * (c->sent + 1) / c->chunks;
    while (begin && (c->text.data[begin] & 0xC0) == 0x80) begin--; /* never inside a character */
    while (end < c->text.size && (c->text.data[end] & 0xC0) == 0x80) end--;
    add_text(&delta, "\"content\":\"");
    add_json_text(&delta, c->text.data + begin, end - begin);
    add_text(&delta, "\"");
    add_event(b, c, delta.data, delta.size, "null", 0);
    drop(&delta);
    c->sent++;
}

static void add_end(Buffer *b, Connection *c) {
    add_event(b, c, "", 0, "\"stop\"", 0);
    if (c->usage) add_event(b, c, "", 0, "", 1);
    add_text(b, "e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n");
}

static void respond_in_one_piece(Connection *c, int64_t due) {
    Buffer body = {0};
    char piece[200];
    add(&body, piece,
        sprintf(piece,
                "{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion\",\"created\":1764374400,\"model\":\"%s\",\"choices\":[{"
                "\"index\":0,\"finish_reason\":\"stop\",\"message\":{\"role\":\"assistant\",\"content\":\"",
                c->model));
    add_json_text(&body, c->text.data, c->text.size);
    add_text(&body, "\"}}],\"usage\":");
    add_text(&body, USAGE);
    add_text(&body, "}");
    respond(c, &body, due);
    drop(&body);
}

static int begin_stream(Connection *c) {
    Buffer out = {0};
    static const char role[] = "\"role\":\"assistant\",\"content\":\"\",\"refusal\":null";
    add_text(&out, "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n");
    add_event(&out, c, role, sizeof role - 1, "null", 0);
    int alive = send_now(c, out.data, out.size);
    drop(&out);
    c->streaming = 1, c->sent = 0;
    wait_until(c, c->first);
    return alive;
}

static int chat(Connection *c, const char *request) {
    Buffer prompt = {0}, model = {0};
    const char *p = value(request, "messages"), *name = value(request, "model"), *options = value(request, "stream_options");
    for (p = p && *p == '[' ? blank(p + 1) : NULL; p && *p == '{'; p = blank(p + 1)) {
        const char *content = value(p, "content");
        if (content && *content == '"') string(content, &prompt);
        p = blank(skip(p));
        if (*p != ',') break;
    }
    add(&prompt, "", 1);
    if (name && *name == '"') string(name, &model);
    add(&model, "", 1);
    int is_long = strstr(model.data, "long") != NULL, is_zero = strstr(model.data, "zero") != NULL;
    snprintf(c->model, sizeof c->model, "%s", is_long ? "long" : is_zero ? "zero" : "short");
    c->text.size = 0;
    write_answer(&c->text, prompt.data, is_long ? 6 : 1);
    c->chunks = is_long ? 300 : 15;
    c->step = is_long ? 10000000 : is_zero ? 0 : 1000000;
    c->first = now() + (is_long ? c->step : is_zero ? 0 : 1000000000);
    c->usage = options && is_true(options, "include_usage");
    stats.chats++;
    int alive = 1;
    if (is_true(request, "stream")) alive = begin_stream(c);
    else respond_in_one_piece(c, c->first + c->step * c->chunks);
    drop(&prompt), drop(&model);
    return alive;
}

/* --- requests */

static void report(Connection *c) {
    struct rusage used;
    Buffer body = {0};
    char text[400];
    getrusage(RUSAGE_SELF, &used);
    double cpu = used.ru_utime.tv_sec + used.ru_stime.tv_sec + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
    add(&body, text,
        sprintf(text,
                "{\"cpu_seconds\":%.6f,\"embeddings\":%ld,\"chats\":%ld,\"chunks\":%ld,\"late_ms\":%.3f,\"latest_ms\":%.3f}",
                cpu, stats.embeddings, stats.chats, stats.chunks, stats.late_ms, stats.latest_ms));
    stats.latest_ms = 0;
    respond(c, &body, 0);
    drop(&body);
}

/* Answers the request at the start of `in` once it is there as a whole. Returns 0 when the connection has to end. */
static int take_request(Connection *c) {
    if (c->streaming || c->held.size || !c->in.size) return 1;
    add(&c->in, "", 1), c->in.size--;
    char *end = memmem(c->in.data, c->in.size, "\r\n\r\n", 4);
    if (!end) return c->in.size < TOO_LONG;
    char saved = *end;
    *end = 0;
    const char *length = strcasestr(c->in.data, "\r\ncontent-length:");
    size_t size = length ? strtoul(length + 17, NULL, 10) : 0, head = end + 4 - c->in.data;
    *end = saved;
    if (size > TOO_LONG) return 0;
    if (c->in.size < head + size) return 1;
    char *line_end = strchr(c->in.data, '\r'), *body = c->in.data + head, after = body[size];
    int alive = 1;
    *line_end = 0, body[size] = 0;
    if (strstr(c->in.data, "/embed-ms/")) {
        embed_ns = atoll(strstr(c->in.data, "/embed-ms/") + 10) * 1000000;
        report(c);
    } else if (strstr(c->in.data, "/embeddings")) {
        embeddings(c, body);
    } else if (strstr(c->in.data, "/chat/completions")) {
        alive = chat(c, body);
    } else {
        report(c);
    }
    body[size] = after;
    c->in.size -= head + size;
    memmove(c->in.data, body + size, c->in.size);
    return alive;
}

static int receive(Connection *c) {
    for (;;) {
        reserve(&c->in, 16384);
        ssize_t got = recv(c->fd, c->in.data + c->in.size, c->in.room - c->in.size - 1, 0);
        if (got < 0) return errno == EAGAIN && take_request(c);
        if (!got) return 0;
        c->in.size += got;
    }
}

static int send_rest(Connection *c) {
    ssize_t sent = c->out.size ? send(c->fd, c->out.data, c->out.size, MSG_NOSIGNAL) : 0;
    if (sent < 0) return errno == EAGAIN;
    c->out.size -= sent;
    memmove(c->out.data, c->out.data + sent, c->out.size);
    if (!c->out.size) {
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
        epoll_ctl(loop, EPOLL_CTL_MOD, c->fd, &e);
    }
    return 1;
}

/* Sends what is due of a connection's response. */
static int go_on(Connection *c, int64_t moment) {
    stop_waiting(c);
    if (!c->streaming) {
        int alive = send_now(c, c->held.data, c->held.size);
        c->held.size = 0;
        return alive && take_request(c);
    }
    Buffer out = {0};
    double late = (moment - c->due) / 1e6;
    int64_t due = c->due;
    stats.chunks++, stats.late_ms += late;
    if (late > stats.latest_ms) stats.latest_ms = late;
    add_token(&out, c);
    if (c->sent == c->chunks) add_end(&out, c);
    int alive = send_now(c, out.data, out.size);
    drop(&out);
    if (c->sent < c->chunks) {
        wait_until(c, due + c->step);
        return alive;
    }
    c->streaming = 0;
    return alive && take_request(c);
}

static void accept_all(int listener) {
    int fd, on = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        Connection *c = calloc(1, sizeof *c);
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
        c->fd = fd, c->place = -1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        epoll_ctl(loop, EPOLL_CTL_ADD, fd, &e);
    }
}

static void set_timer(int timer) {
    struct itimerspec when = {0};
    int64_t due = waiting ? heap[0]->due : 0;
    if (waiting && due <= 0) due = 1;
    when.it_value.tv_sec = due / 1000000000, when.it_value.tv_nsec = due % 1000000000;
    timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL);
}

int main(int argc, char **argv) {
    if (argc > 1) embed_ns = atoll(argv[1]) * 1000000;
    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    setpriority(PRIO_PROCESS, 0, -10); /* A real provider has a machine of its own. Without the right to: as it is. */
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    loop = epoll_create1(EPOLL_CLOEXEC);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4096)) return 1;
    getsockname(listener, (struct sockaddr *)&address, &size);
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    struct epoll_event events[256], e = {.events = EPOLLIN, .data.ptr = &listener};
    epoll_ctl(loop, EPOLL_CTL_ADD, listener, &e);
    e.data.ptr = &timer;
    epoll_ctl(loop, EPOLL_CTL_ADD, timer, &e);
    for (;;) {
        set_timer(timer);
        int count = epoll_wait(loop, events, 256, -1);
        for (int i = 0; i < count; i++) {
            Connection *c = events[i].data.ptr;
            if (events[i].data.ptr == &listener) {
                accept_all(listener);
            } else if (events[i].data.ptr == &timer) {
                uint64_t expirations;
                if (read(timer, &expirations, sizeof expirations) < 0 && errno != EAGAIN) return 1;
            } else {
                int alive = !(events[i].events & EPOLLOUT) || send_rest(c);
                if (!alive || (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR) && !receive(c))) end_connection(c);
            }
        }
        int64_t moment = now();
        while (waiting && heap[0]->due <= moment) {
            Connection *c = heap[0];
            if (!go_on(c, moment)) end_connection(c);
        }
    }
}

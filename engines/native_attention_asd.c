/*
 * The network of AttentionAsdModel for one clip on one core: from the waveform to embedding, cosines, attention map and the
 * log-mel's statistics, without writing the attention module's 64 channels or a bottleneck's hidden channels to memory.
 *
 * native_attention_asd.py compiles this file for the machine that it runs on and hands over the weights, which
 * native_weights.py folded and quantized. The structures are those of native_layout_attention_asd.py, from which Python
 * makes everything that depends on them; a test compares the two.
 *
 * The 1x1 convolutions of MobileFaceNet, 88 % of the arithmetic, multiply 8-bit or 16-bit integers. The largest product of
 * the attention module is of 16 bits in both: with 8, attention maps were wrong by 0.06 and half a point of AUC went with
 * them. So is MobileFaceNet's first convolution. Everything else is float32.
 *
 * Layouts. Planes: (channel, row, time), 16 frames in a vector; rows have a margin of zeros. Pixels: (row, time, channel),
 * 16 channels in a vector; channels are padded to multiples of 64 by zeros, and so is everything that belongs to them.
 *
 * On Zen 4, which this was measured on, two 512-bit operations can start in a cycle, one of them a product.
 */

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if !defined(__AVX512VNNI__) || !defined(__AVX512DQ__) || !defined(__AVX512BW__)
#error "this processor has no AVX-512 VNNI"
#endif

#include <immintrin.h>

#define INLINE static inline __attribute__((always_inline))
#define LANES 16
#define MAX_REPRESENTATIONS 2
/* First channels of the attention module. */
#define HIDDEN 16
/* Vectors of frames that the attention module computes together. */
#define SPAN 4
/* Of the attention module's second convolution and of the stem: what their 16-bit integers reach. */
#define HIGHEST 32767
/* Arguments of exponentials are in these parts of 1. */
#define STEPS 8388608.0f
/* Pixels and vectors of channels whose sums are held in registers: 24 of 32. */
#define TILE 6
#define BLOCK 4
/* Frames over which the statistics measure change, the longest last, and rows of the statistics. */
static const int LAGS[] = {1, 2, 4, 8};
#define NUM_LAGS (int)(sizeof LAGS / sizeof *LAGS)
#define SPECTRA_ROWS (2 + NUM_LAGS)

typedef float Floats __attribute__((vector_size(64)));
typedef int32_t Ints __attribute__((vector_size(64)));
typedef float UnalignedFloats __attribute__((vector_size(64), aligned(4), may_alias));
typedef int32_t UnalignedInts __attribute__((vector_size(64), aligned(4), may_alias));

/* 1x1 convolution of quantized pixels: factor * (weights . pixel + bias), or, without a factor, prelu(weights . pixel + bias):
 * what comes next is linear in every channel, and has the factor in its weights. */
typedef struct {
    int32_t in_channels, out_channels;
    const float *factor, *slope; /* one of them */
    const int32_t *bias;
    const int8_t *weights; /* (out / 64, in / values in 4 bytes, 64, values in 4 bytes) */
} Pointwise;

/* 3x3 depthwise convolution with zero padding, quantized: round(prelu(weights * pixels + bias) + offset), kept in range. */
typedef struct {
    int32_t channels, stride;
    const float *parameters; /* (channels / 16, 12, 16): nine weights, bias, slope and offset of a vector of channels */
} Depthwise;

/* pixel -> round(pixel * factor + offset), kept in range. */
typedef struct {
    const float *factor, *offset;
} Quantization;

typedef struct {
    Quantization input; /* not of the first: it is the stem's offset */
    Pointwise expand;
    Depthwise depthwise;
    Pointwise project;
    int32_t is_residual;
} Bottleneck;

typedef struct {
    int32_t clip_length, n_fft, hop_length, num_mel_bins, num_frames;
    int32_t num_representations, log_mel_position, wavegram_position, wavegram_kernel_size;
    int32_t use_attention, attention_channels;
    int32_t stem_channels, num_bottlenecks, head_channels, embedding_size, num_labels;
    int32_t is_wide; /* 16-bit pixels in the place of 8-bit ones */
    float mel_floor;
    /* Log-mel: window and one turn of cosine and sine (n_fft); mel filters without their zeros. */
    const float *window, *cosine, *sine, *mel_weights;
    const int32_t *mel_first, *mel_count;
    /* Wavegram: relu(filter . samples + bias), then relu(gain[bin] * that + offset[bin]). */
    const float *wavegram_filter, *wavegram_gain, *wavegram_offset;
    float wavegram_bias;
    /* Attention, where R are the representations and MAX_R the most of them; its exponentials are powers of a half, and factors
     * of -STEPS * log2(e) are in the weights. */
    const float *first_depthwise, *first_depthwise_bias;  /* (R, 9), (R) */
    const float *first_pointwise, *first_pointwise_bias;  /* (HIDDEN, MAX_R), (HIDDEN) */
    const float *first_gain, *first_offset;               /* (HIDDEN) */
    const float *second_depthwise, *second_depthwise_bias; /* (HIDDEN, 9), (HIDDEN): to 16-bit integers */
    const int16_t *second_pointwise;                       /* (channels, HIDDEN) */
    const int32_t *second_bias;                            /* (channels) */
    const float *second_gain, *second_offset;              /* (channels) */
    const float *last_linear, *last_exponential, *last_offset; /* (channels) */
    const float *last_pointwise, *last_pointwise_bias;           /* (channels, MAX_R), (MAX_R) */
    /* MobileFaceNet */
    const float *stem_factor;                     /* (MAX_R): to 16-bit integers */
    const int16_t *stem;                          /* (9, stem, MAX_R) */
    const int32_t *stem_bias;                     /* (stem) */
    const float *stem_slope;                      /* (stem) */
    Depthwise stem_depthwise;
    const Bottleneck *bottlenecks;
    Quantization head_input;
    Pointwise head;
    const float *global_depthwise, *global_bias; /* (pixels, head), (head) */
    const float *embedding, *embedding_bias;     /* (head, embedding) */
    const float *centres;                        /* (embedding, labels), of length 1 */
} Network;

/* ---- Vectors */

INLINE Floats load(const float *p) { return *(const UnalignedFloats *)p; }
INLINE void store(float *p, Floats v) { *(UnalignedFloats *)p = v; }
/* As many of the first elements as there are left. */
INLINE void store_first(float *p, Floats v, int left) {
    const __mmask16 kept = left >= LANES ? 0xffff : left > 0 ? (1 << left) - 1 : 0;
    _mm512_mask_storeu_ps(p, kept, (__m512)v);
}
INLINE Ints load_ints(const int32_t *p) { return *(const UnalignedInts *)p; }
INLINE Floats all(float v) { return v - (Floats){0}; }

/* Keeps a vector in a register: compilers rather load it again for every product. */
INLINE Floats in_register(Floats v) {
    __asm__("" : "+v"(v));
    return v;
}

/* 16 elements of two vectors in a row, from the element `first` on. */
#define joined(a, b, first) ((Floats)_mm512_alignr_epi32((__m512i)(b), (__m512i)(a), first))
INLINE Floats shuffled(Floats a, Ints places, Floats b) {
    return (Floats)_mm512_permutex2var_ps((__m512)a, (__m512i)places, (__m512)b);
}
INLINE Ints nearest(Floats v) { return (Ints)_mm512_cvtps_epi32((__m512)v); }
/* No more than 255. */
INLINE void store_bytes(uint8_t *p, Ints v) { _mm_storeu_si128((__m128i *)p, _mm512_cvtusepi32_epi8((__m512i)v)); }
INLINE void store_shorts(uint8_t *p, Ints v) { _mm256_storeu_si256((__m256i *)p, _mm512_cvtepi32_epi16((__m512i)v)); }
INLINE Ints not_negative(Ints v) { return (Ints)_mm512_max_epi32((__m512i)v, _mm512_setzero_si512()); }
INLINE Ints multiply_bytes(Ints sum, Ints pixel, Ints weights) {
    return (Ints)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)pixel, (__m512i)weights);
}
INLINE Ints multiply_shorts(Ints sum, Ints pixel, Ints weights) {
    return (Ints)_mm512_dpwssd_epi32((__m512i)sum, (__m512i)pixel, (__m512i)weights);
}

/* With zero, floats compare as integers do, which more of a core's units can. */
INLINE Floats positive_part(Floats v) { return (Floats)_mm512_max_epi32((__m512i)v, _mm512_setzero_si512()); }
INLINE Floats negative_part(Floats v) { return (Floats)_mm512_min_epi32((__m512i)v, _mm512_setzero_si512()); }
/* A float between 1 and 2 that has the lowest 23 bits. */
INLINE Floats mantissa_of(Ints v) {
    return (Floats)_mm512_ternarylogic_epi32((__m512i)v, _mm512_set1_epi32(0x7fffff), _mm512_set1_epi32(0x3f800000), 0xea);
}
/* Half of the bits are enough: an exponent of 9 bits is above them. */
INLINE Floats exponent_less(Floats v, Ints steps) {
    return (Floats)_mm512_subs_epu16((__m512i)v, (__m512i)(steps & ~0x7fffff));
}
INLINE Ints between(Ints v, int32_t lowest, int32_t highest) {
    return (Ints)_mm512_min_epi32(_mm512_max_epi32((__m512i)v, _mm512_set1_epi32(lowest)), _mm512_set1_epi32(highest));
}
INLINE Floats prelu(Floats v, Floats slope) { return positive_part(v) + slope * negative_part(v); }

/* 2^(-v / STEPS) for v >= 0, within 8e-5 of it: a polynomial takes what is after the point, as the mantissa of a number
 * between 1 and 2; what is before it is subtracted from the exponent, down to zero. */
INLINE Floats power_of_half(Floats v) {
    const Ints steps = nearest(v);
    const Floats m = mantissa_of(steps);
    Floats p = all(-3.90122703e-02f);
    p = p * m + all(3.47107212e-01f);
    p = p * m + all(-1.26819836e+00f);
    p = p * m + all(1.96002864e+00f);
    return exponent_less(p, steps);
}

/* Decibels of a positive power: 10 log10(v). The polynomial is Cephes' of the natural logarithm (Moshier). */
INLINE Floats decibels(Floats v) {
    const Ints bits = (Ints)v, exponent = (bits - 0x3f3504f3) >> 23;
    const Floats x = (Floats)(bits - (exponent << 23)) - all(1);
    Floats p = all(7.0376836292e-2f);
    p = p * x + all(-1.1514610310e-1f);
    p = p * x + all(1.1676998740e-1f);
    p = p * x + all(-1.2420140846e-1f);
    p = p * x + all(1.4249322787e-1f);
    p = p * x + all(-1.6668057665e-1f);
    p = p * x + all(2.0000714765e-1f);
    p = p * x + all(-2.4999993993e-1f);
    p = p * x + all(3.3333331174e-1f);
    const Floats logarithm = x + x * x * (x * p - all(0.5f));
    return logarithm * all(4.34294481903f) + __builtin_convertvector(exponent, Floats) * all(3.01029995664f);
}

/* ---- Sizes */

/* Floats from a pixel to the next in rows of hidden channels: one vector more than there are, or columns would fall on the same
 * sets of the cache. */
static size_t spaced(int channels) { return (size_t)channels + LANES; }
static int halved(int size) { return (size + 1) / 2; }
static int multiple(int size, int of) { return (size + of - 1) / of * of; }
/* Floats in a row of a plane: a vector of zeros, the frames, zeros. */
static int plane_width(const Network *n) { return multiple(n->num_frames, SPAN * LANES) + 2 * LANES; }
static int pixel_bytes(const Network *n) { return n->is_wide ? 2 : 1; }

typedef struct {
    uint8_t *next;
    size_t used;
} Workspace;

/* Room in the workspace, or, without one, only its size. */
static void *room(Workspace *w, size_t bytes) {
    uint8_t *start = w->next;
    bytes = (bytes + 63) / 64 * 64;
    w->used += bytes;
    if (w->next) w->next += bytes;
    return start;
}

typedef struct {
    float *edges, *spectrum, *buffer, *power, *signal;
    float *representations, *hidden;
    int32_t *weighed; /* pairs of 16-bit integers */
    float *zeros, *rows, *row;
    float *stream[2];
    uint8_t *pixels[2], *quantized_row;
} Rooms;

/* The workspace starts as zeros. The margins of planes and rows, and what a convolution meets beyond the edges, stay so:
 * nothing else is written there. */
static size_t lay_out(const Network *n, void *workspace, Rooms *r) {
    Workspace w = {workspace, 0};
    const size_t width = plane_width(n), floats = sizeof(float);
    r->edges = room(&w, (size_t)n->n_fft * LANES * floats);
    r->spectrum = room(&w, (size_t)n->n_fft * LANES * floats);
    r->buffer = room(&w, (size_t)n->n_fft * LANES * floats);
    r->power = room(&w, (size_t)(n->n_fft / 2 + 1) * LANES * floats);
    r->signal = room(&w, width * floats);
    /* A row of zeros above and below. */
    const size_t plane = (size_t)(n->num_mel_bins + 2) * width;
    r->representations = room(&w, MAX_REPRESENTATIONS * plane * floats);
    r->weighed = room(&w, plane * sizeof(int32_t));
    r->hidden = room(&w, 4 * HIDDEN * width * floats);
    size_t height = halved(n->num_mel_bins), time = halved(n->num_frames);
    size_t most_row = (time + 2) * spaced(n->stem_channels), most_stream = 0, most_pixels = height * time * n->stem_channels;
    for (int i = 0; i < n->num_bottlenecks; i++) {
        const Bottleneck *b = &n->bottlenecks[i];
        const size_t hidden = (time + 2) * spaced(b->expand.out_channels);
        if (hidden > most_row) most_row = hidden;
        if (b->depthwise.stride == 2) height = halved((int)height), time = halved((int)time);
        const size_t size = height * time * b->project.out_channels;
        if (size > most_stream) most_stream = size;
        if (size > most_pixels) most_pixels = size;
    }
    if (time * n->head_channels > most_row) most_row = time * n->head_channels;
    r->zeros = room(&w, most_row * floats);
    r->rows = room(&w, 3 * most_row * floats);
    r->row = room(&w, most_row * floats);
    for (int i = 0; i < 2; i++) {
        r->stream[i] = room(&w, most_stream * floats);
        r->pixels[i] = room(&w, most_pixels * pixel_bytes(n));
    }
    r->quantized_row = room(&w, most_row * pixel_bytes(n));
    return w.used;
}

size_t asd_workspace_bytes(const Network *n) {
    Rooms rooms;
    return lay_out(n, NULL, &rooms);
}

/* ---- Representations (Section II.A) */

typedef struct {
    Floats re, im;
} Complex;

/* 16 vectors of 16: the element i of vector j becomes the element j of vector i. */
INLINE void transpose(const Floats *from, Floats *to) {
    const Ints low = {0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23}, high = low + 8;
    Floats steps[2][LANES];
    for (int i = 0; i < LANES; i++) steps[0][i] = from[i];
    for (int step = 0; step < 4; step++) {
        const Floats *now = steps[step % 2];
        Floats *next = step == 3 ? to : steps[(step + 1) % 2];
        for (int i = 0; i < LANES / 2; i++) {
            next[2 * i] = shuffled(now[i], low, now[i + LANES / 2]);
            next[2 * i + 1] = shuffled(now[i], high, now[i + LANES / 2]);
        }
    }
}

/* Fourier transform of 16 frames side by side, radix 4 (Stockham); returns which of the two has the result. */
static Complex *transform(int size, Complex *x, Complex *y, const float *cosine, const float *sine, int turn) {
    int stride = 1;
    for (; size > 2; size /= 4, stride *= 4) {
        const int quarter = size / 4, step = turn / size;
        for (int p = 0; p < quarter; p++) {
            const Floats c1 = all(cosine[p * step]), s1 = all(-sine[p * step]);
            const Floats c2 = all(cosine[2 * p * step]), s2 = all(-sine[2 * p * step]);
            const Floats c3 = all(cosine[3 * p * step]), s3 = all(-sine[3 * p * step]);
            for (int q = 0; q < stride; q++) {
                const Complex a = x[q + stride * p], b = x[q + stride * (p + quarter)];
                const Complex c = x[q + stride * (p + 2 * quarter)], d = x[q + stride * (p + 3 * quarter)];
                const Complex ac = {a.re + c.re, a.im + c.im}, a_c = {a.re - c.re, a.im - c.im};
                const Complex bd = {b.re + d.re, b.im + d.im}, jb_d = {d.im - b.im, b.re - d.re};
                const Complex u = {a_c.re - jb_d.re, a_c.im - jb_d.im}, v = {ac.re - bd.re, ac.im - bd.im};
                const Complex w = {a_c.re + jb_d.re, a_c.im + jb_d.im};
                Complex *out = y + q + stride * 4 * p;
                out[0] = (Complex){ac.re + bd.re, ac.im + bd.im};
                out[stride] = (Complex){u.re * c1 - u.im * s1, u.re * s1 + u.im * c1};
                out[2 * stride] = (Complex){v.re * c2 - v.im * s2, v.re * s2 + v.im * c2};
                out[3 * stride] = (Complex){w.re * c3 - w.im * s3, w.re * s3 + w.im * c3};
            }
        }
        Complex *swap = x;
        x = y, y = swap;
    }
    if (size == 2) {
        for (int q = 0; q < stride; q++) {
            const Complex a = x[q], b = x[q + stride];
            x[q] = (Complex){a.re + b.re, a.im + b.im};
            x[q + stride] = (Complex){a.re - b.re, a.im - b.im};
        }
    }
    return x;
}

static float *plane(const Network *n, float *planes, int channel) {
    const size_t width = plane_width(n);
    return planes + (size_t)channel * (n->num_mel_bins + 2) * width + width + LANES;
}

static int32_t *weighed(const Network *n, const Rooms *r) { return r->weighed + plane_width(n) + LANES; }

/* Zeros after the last frame of a row, which the next convolution reads. */
INLINE void end_row(const Network *n, float *row) {
    for (int t = n->num_frames; t < multiple(n->num_frames, SPAN * LANES); t++) row[t] = 0;
}

/* A frame's samples: those of the waveform, or, where it reaches beyond it, a reflection, put together in `buffer`. */
static const float *frame_samples(const Network *n, const float *waveform, int frame, float *buffer) {
    const int start = frame * n->hop_length - n->n_fft / 2, last = n->clip_length - 1;
    if (start >= 0 && start + n->n_fft - 1 <= last) return waveform + start;
    for (int i = 0; i < n->n_fft; i++) {
        int at = start + i < 0 ? -(start + i) : start + i;
        at = at > last ? 2 * last - at : at;
        /* Frames after the last one fill the vector, and are not looked at. */
        buffer[i] = at < 0 ? 0 : waveform[at];
    }
    return buffer;
}

static void log_mel(const Network *n, const float *waveform, const Rooms *r, float *rows) {
    const int half = n->n_fft / 2;
    const size_t width = plane_width(n);
    Floats *power = (Floats *)r->power;
    for (int first = 0; first < n->num_frames; first += LANES) {
        /* Samples 2 i and 2 i + 1 as real and imaginary part: half the transform. */
        Floats *samples = (Floats *)r->spectrum;
        const float *frames[LANES];
        for (int i = 0; i < LANES; i++) frames[i] = frame_samples(n, waveform, first + i, r->edges + i * n->n_fft);
        for (int i = 0; i < n->n_fft; i += LANES) {
            const Floats window = load(n->window + i);
            Floats block[LANES];
            for (int frame = 0; frame < LANES; frame++) block[frame] = load(frames[frame] + i) * window;
            transpose(block, samples + i);
        }
        const Complex *z =
            transform(half, (Complex *)r->spectrum, (Complex *)r->buffer, n->cosine, n->sine, n->n_fft);
        for (int k = 0; k <= half; k++) {
            const Complex a = z[k % half], b = z[(half - k) % half];
            const Floats even_re = a.re + b.re, even_im = a.im - b.im, odd_re = a.im + b.im, odd_im = b.re - a.re;
            const Floats c = all(n->cosine[k]), s = all(-n->sine[k]);
            const Floats re = even_re + odd_re * c - odd_im * s, im = even_im + odd_re * s + odd_im * c;
            power[k] = (re * re + im * im) * all(0.25f);
        }
        const float *weights = n->mel_weights;
        for (int bin = 0; bin < n->num_mel_bins; bin++) {
            Floats sum = all(n->mel_floor);
            for (int i = 0; i < n->mel_count[bin]; i++) sum += all(*weights++) * power[n->mel_first[bin] + i];
            store(rows + bin * width + first, decibels(sum));
        }
    }
    for (int bin = 0; bin < n->num_mel_bins; bin++) end_row(n, rows + bin * width);
}

static void wavegram(const Network *n, const float *waveform, const Rooms *r, float *rows) {
    const size_t width = plane_width(n);
    const int size = n->wavegram_kernel_size;
    memset(r->signal, 0, width * sizeof(float));
    for (int frame = 0; frame < n->num_frames; frame++) {
        const int start = frame * n->hop_length - size / 2;
        const int from = start < 0 ? -start : 0;
        const int to = start + size > n->clip_length ? n->clip_length - start : size;
        Floats sums[4] = {0};
        int i = from;
        for (; i + 4 * LANES <= to; i += 4 * LANES)
            for (int j = 0; j < 4; j++)
                sums[j] += load(waveform + start + i + j * LANES) * load(n->wavegram_filter + i + j * LANES);
        float sum = n->wavegram_bias;
        for (; i < to; i++) sum += waveform[start + i] * n->wavegram_filter[i];
        const Floats lanes = (sums[0] + sums[1]) + (sums[2] + sums[3]);
        for (int j = 0; j < LANES; j++) sum += lanes[j];
        r->signal[frame] = sum > 0 ? sum : 0;
    }
    for (int bin = 0; bin < n->num_mel_bins; bin++) {
        const Floats gain = all(n->wavegram_gain[bin]), offset = all(n->wavegram_offset[bin]);
        for (int t = 0; t < n->num_frames; t += LANES)
            store(rows + bin * width + t, positive_part(load(r->signal + t) * gain + offset));
        end_row(n, rows + bin * width);
    }
}

/* Mean over time of the squared change over `lag` frames. */
INLINE double squared_change(const float *row, int frames, int lag) {
    Floats squares = all(0);
    double sum = 0;
    int t = 0;
    for (; t + LANES + lag <= frames; t += LANES) {
        const Floats d = load(row + t + lag) - load(row + t);
        squares += d * d;
    }
    for (; t + lag < frames; t++) sum += (double)(row[t + lag] - row[t]) * (row[t + lag] - row[t]);
    for (int i = 0; i < LANES; i++) sum += squares[i];
    return sum / (frames - lag);
}

/* `spectral_statistics` of modeling_attention_asd.py: (SPECTRA_ROWS, bins). */
static void statistics(const Network *n, const float *rows, float *result) {
    const size_t width = plane_width(n);
    const int bins = n->num_mel_bins, frames = n->num_frames;
    for (int bin = 0; bin < bins; bin++) {
        const float *row = rows + bin * width;
        Floats sum = all(0), squares = all(0);
        /* Sums per lane; after the last frame there are zeros. */
        for (int t = 0; t < frames; t += LANES) sum += load(row + t);
        double mean = 0, variance = 0;
        for (int i = 0; i < LANES; i++) mean += sum[i];
        mean /= frames;
        int t = 0;
        for (; t + LANES < frames; t += LANES) {
            const Floats d = load(row + t) - all((float)mean);
            squares += d * d;
        }
        for (; t < frames; t++) variance += (row[t] - mean) * (row[t] - mean);
        for (int i = 0; i < LANES; i++) variance += squares[i];
        result[bin] = (float)mean;
        result[bins + bin] = sqrtf((float)(variance / frames) + 1e-8f);
        for (int k = 0; k < NUM_LAGS; k++)
            result[(2 + k) * bins + bin] = sqrtf((float)squared_change(row, frames, LAGS[k]) + 1e-8f);
    }
}

/* What the backbone sees of 16 frames: representations times the attention map, in pairs of 16-bit integers. */
INLINE void store_weighed(const Network *n, const Rooms *r, int row, int from, const Floats weights[MAX_REPRESENTATIONS]) {
    const size_t at = row * plane_width(n) + from;
    Ints pair = {0};
    for (int c = n->num_representations - 1; c >= 0; c--) {
        const Floats value = weights[c] * load(plane(n, r->representations, c) + at) * all(n->stem_factor[c]);
        pair = pair << 16 | (between(nearest(value), -HIGHEST, HIGHEST) & 0xffff);
    }
    *(UnalignedInts *)(weighed(n, r) + at) = pair;
}

static void all_weights_1(const Network *n, const Rooms *r) {
    const Floats weights[MAX_REPRESENTATIONS] = {all(1), all(1)};
    for (int row = 0; row < n->num_mel_bins; row++)
        for (int t = 0; t < n->num_frames; t += LANES) store_weighed(n, r, row, t, weights);
}

/* ---- Attention (Section II.B) */

INLINE Floats convolve_plane(const float *center, size_t width, const float *weights, float bias) {
    Floats sum = all(bias);
    for (int dy = -1; dy <= 1; dy++)
        for (int dx = -1; dx <= 1; dx++) sum += all(weights[3 * dy + dx + 4]) * load(center + dy * (ptrdiff_t)width + dx);
    return sum;
}

/* One row of the first separable convolution, BatchNorm and ELU: (HIDDEN, width). */
static void attention_first(const Network *n, const float *representations, int row, float *hidden) {
    const size_t width = plane_width(n);
    for (int t = 0; t < n->num_frames; t += LANES) {
        Floats inputs[MAX_REPRESENTATIONS] = {0};
        for (int c = 0; c < n->num_representations; c++) {
            const float *center = plane(n, (float *)representations, c) + row * width + t;
            inputs[c] =
                positive_part(convolve_plane(center, width, n->first_depthwise + 9 * c, n->first_depthwise_bias[c]));
        }
        for (int h = 0; h < HIDDEN; h++) {
            Floats sum = all(n->first_pointwise_bias[h]);
            for (int c = 0; c < MAX_REPRESENTATIONS; c++)
                sum += all(n->first_pointwise[h * MAX_REPRESENTATIONS + c]) * inputs[c];
            const Floats v = positive_part(sum) * all(n->first_gain[h]) + all(n->first_offset[h]);
            const Floats negative = power_of_half(positive_part(v)) - all(1);
            store(hidden + h * width + LANES + t, negative_part(v) * all(-0.69314718056f / STEPS) + negative);
        }
    }
    for (int h = 0; h < HIDDEN; h++) end_row(n, hidden + h * width + LANES);
}

/* Of one channel; pairs of 16-bit integers. */
INLINE void second_pointwise(const Network *n, int channel, Ints pairs[HIDDEN / 2][SPAN], Ints sums[SPAN]) {
    const int32_t *weights = (const int32_t *)n->second_pointwise + channel * (HIDDEN / 2);
    for (int j = 0; j < SPAN; j++) sums[j] = n->second_bias[channel] - (Ints){0};
#pragma GCC unroll 8
    for (int h = 0; h < HIDDEN / 2; h++) {
        const Ints weight = weights[h] - (Ints){0};
        for (int j = 0; j < SPAN; j++) sums[j] = multiply_shorts(sums[j], weight, pairs[h][j]);
    }
}

/* One row of the rest: `hidden` are the rows above, here and below. SPAN vectors share the weights' loads. */
static void attention_rest(const Network *n, const float *const hidden[3], int row, const Rooms *r, float *maps) {
    const size_t width = plane_width(n);
    const int outputs = n->num_representations;
    for (int t = 0; t < n->num_frames; t += SPAN * LANES) {
        Ints pairs[HIDDEN / 2][SPAN];
        for (int h = 0; h < HIDDEN; h += 2) {
            Ints both[2][SPAN];
#pragma GCC unroll 2
            for (int i = 0; i < 2; i++) {
                const float *weights = n->second_depthwise + 9 * (h + i);
                const size_t at = (h + i) * width + LANES + t;
                Floats sums[SPAN];
                for (int j = 0; j < SPAN; j++) sums[j] = all(n->second_depthwise_bias[h + i]);
                for (int dy = 0; dy < 3; dy++) {
                    /* Loads across cache lines take twice as long: neighbours are put together from whole vectors. */
                    Floats frames[SPAN + 2];
                    for (int j = 0; j < SPAN + 2; j++) frames[j] = in_register(load(hidden[dy] + at + (j - 1) * LANES));
                    const Floats before = all(weights[3 * dy]), now = all(weights[3 * dy + 1]);
                    const Floats after = all(weights[3 * dy + 2]);
                    for (int j = 0; j < SPAN; j++) {
                        sums[j] += before * joined(frames[j], frames[j + 1], LANES - 1);
                        sums[j] += now * frames[j + 1];
                        sums[j] += after * joined(frames[j + 1], frames[j + 2], 1);
                    }
                }
                for (int j = 0; j < SPAN; j++) both[i][j] = between(nearest(sums[j]), 0, HIGHEST);
            }
            for (int j = 0; j < SPAN; j++) pairs[h / 2][j] = both[0][j] | (both[1][j] << 16);
        }
        Floats logits[MAX_REPRESENTATIONS][SPAN];
        for (int c = 0; c < MAX_REPRESENTATIONS; c++)
            for (int j = 0; j < SPAN; j++) logits[c][j] = all(n->last_pointwise_bias[c]);
        /* A channel ahead: the products of one have their place between the steps of another's exponential (0.1 ms). */
        Ints sums[SPAN], next[SPAN];
        second_pointwise(n, 0, pairs, next);
        for (int k = 0; k < n->attention_channels; k++) {
            for (int j = 0; j < SPAN; j++) sums[j] = next[j];
            if (k + 1 < n->attention_channels) second_pointwise(n, k + 1, pairs, next);
            const Floats gain = all(n->second_gain[k]), offset = all(n->second_offset[k]);
            const Floats negative = all(n->last_linear[k]), exponential = all(n->last_exponential[k]);
            const Floats last_offset = all(n->last_offset[k]);
            for (int j = 0; j < SPAN; j++) {
                const Floats v = __builtin_convertvector(not_negative(sums[j]), Floats) * gain + offset;
                const Floats linear = negative_part(v) * negative + last_offset;
                const Floats u = positive_part(power_of_half(positive_part(v)) * exponential + linear);
                for (int c = 0; c < MAX_REPRESENTATIONS; c++)
                    logits[c][j] += u * all(n->last_pointwise[k * MAX_REPRESENTATIONS + c]);
            }
        }
        for (int j = 0; j < SPAN; j++) {
            const int from = t + j * LANES, left = n->num_frames - from;
            Floats weights[MAX_REPRESENTATIONS];
            for (int c = 0; c < outputs; c++) {
                /* The ReLU before it keeps the exponential's argument above zero. */
                weights[c] = all(1) / (all(1) + power_of_half(positive_part(logits[c][j]) * all(1.44269504089f * STEPS)));
                float *values = maps + ((size_t)c * n->num_mel_bins + row) * n->num_frames + from;
                store_first(values, weights[c], left);
            }
            store_weighed(n, r, row, from, weights);
        }
    }
}

static void attention(const Network *n, const Rooms *r, float *maps) {
    const size_t size = HIDDEN * (size_t)plane_width(n);
    float *zeros = r->hidden + 3 * size;
    attention_first(n, r->representations, 0, r->hidden);
    for (int row = 0; row < n->num_mel_bins; row++) {
        const int has_next = row + 1 < n->num_mel_bins;
        float *next = has_next ? r->hidden + (row + 1) % 3 * size : zeros;
        if (has_next) attention_first(n, r->representations, row + 1, next);
        const float *const rows[3] = {row ? r->hidden + (row - 1) % 3 * size : zeros, r->hidden + row % 3 * size, next};
        attention_rest(n, rows, row, r, maps);
    }
}

/* ---- MobileFaceNet (Section II.C) */

INLINE void store_pixels(const int wide, uint8_t *pixels, size_t at, Floats v) {
    if (wide)
        store_shorts(pixels + 2 * at, between(nearest(v), -8192, 8191));
    else
        store_bytes(pixels + at, not_negative(nearest(v)));
}

/* Where the pixels of a convolution go, one every `stride` channels: to floats, to the integers that the next convolution
 * reads, or to both. */
typedef struct {
    size_t stride;
    float *floats;
    uint8_t *quantized;
    Quantization quantization;
    const float *residual; /* what is added first */
} Destination;

INLINE void multiply_tile(const int wide, const int activated, const int count, const uint8_t *pixels, size_t stride,
                          const int8_t *weights, int steps, const Pointwise *p, int channel, const Destination *to,
                          size_t first) {
    Ints sums[TILE][BLOCK];
#pragma GCC unroll 4
    for (int j = 0; j < BLOCK; j++)
#pragma GCC unroll 6
        for (int i = 0; i < count; i++) sums[i][j] = load_ints(p->bias + channel + j * LANES);
    for (int k = 0; k < steps; k++) {
        Ints w[BLOCK];
#pragma GCC unroll 4
        for (int j = 0; j < BLOCK; j++) w[j] = *(const UnalignedInts *)(weights + 64 * (BLOCK * (size_t)k + j));
#pragma GCC unroll 6
        for (int i = 0; i < count; i++) {
            int32_t four_bytes;
            memcpy(&four_bytes, pixels + i * stride + 4 * k, 4);
            const Ints pixel = four_bytes - (Ints){0};
#pragma GCC unroll 4
            for (int j = 0; j < BLOCK; j++)
                sums[i][j] = wide ? multiply_shorts(sums[i][j], pixel, w[j]) : multiply_bytes(sums[i][j], pixel, w[j]);
        }
    }
#pragma GCC unroll 4
    for (int j = 0; j < BLOCK; j++) {
        const int c = channel + j * LANES;
        const Floats parameter = load((activated ? p->slope : p->factor) + c);
        const Floats factor = activated ? all(0) : load(to->quantization.factor + c);
        const Floats offset = activated ? all(0) : load(to->quantization.offset + c);
#pragma GCC unroll 6
        for (int i = 0; i < count; i++) {
            const size_t at = (first + i) * to->stride + c;
            Floats v = __builtin_convertvector(sums[i][j], Floats);
            if (activated) {
                store(to->floats + at, prelu(v, parameter));
                continue;
            }
            v *= parameter;
            if (to->residual) v += load(to->residual + at);
            if (to->floats) store(to->floats + at, v);
            store_pixels(wide, to->quantized, at, v * factor + offset);
        }
    }
}

/* 64 output channels, from `channel` on, of a row of pixels. */
INLINE void pointwise(const int wide, const int activated, const Pointwise *p, const uint8_t *pixels, int count, int channel,
                      const Destination *to) {
    const size_t stride = (size_t)p->in_channels * (wide ? 2 : 1);
    const int steps = (int)(stride / 4);
    const int8_t *weights = p->weights + (size_t)channel * stride;
    for (int i = 0; i < count; i += TILE) {
        const uint8_t *from = pixels + i * stride;
        switch (count - i) {
            case 1: multiply_tile(wide, activated, 1, from, stride, weights, steps, p, channel, to, i); break;
            case 2: multiply_tile(wide, activated, 2, from, stride, weights, steps, p, channel, to, i); break;
            case 3: multiply_tile(wide, activated, 3, from, stride, weights, steps, p, channel, to, i); break;
            case 4: multiply_tile(wide, activated, 4, from, stride, weights, steps, p, channel, to, i); break;
            case 5: multiply_tile(wide, activated, 5, from, stride, weights, steps, p, channel, to, i); break;
            default: multiply_tile(wide, activated, TILE, from, stride, weights, steps, p, channel, to, i);
        }
    }
}

INLINE void depthwise_pixels(const int wide, const int stride, const int count, const Depthwise *d,
                             const float *const rows[3], int x, int channel, uint8_t *out) {
    const size_t column = spaced(d->channels), start = (size_t)x * stride * column + channel;
    const float *row_0 = rows[0] + start, *row_1 = rows[1] + start, *row_2 = rows[2] + start;
    const float *parameters = d->parameters + 12 * (size_t)channel;
    const size_t bytes = wide ? 2 : 1, pixel = d->channels * bytes;
    out += x * pixel + channel * bytes;
    for (int block = 0; block < BLOCK; block++) {
        Floats sums[4];
#pragma GCC unroll 4
        for (int i = 0; i < count; i++) sums[i] = load(parameters + 9 * LANES);
#pragma GCC unroll 3
        for (int dy = 0; dy < 3; dy++) {
            const float *pixels = dy == 0 ? row_0 : dy == 1 ? row_1 : row_2;
            Floats columns[9];
#pragma GCC unroll 9
            for (int j = 0; j < stride * (count - 1) + 3; j++) columns[j] = in_register(load(pixels + j * column));
#pragma GCC unroll 3
            for (int dx = 0; dx < 3; dx++) {
                const Floats weight = in_register(load(parameters + (3 * dy + dx) * LANES));
#pragma GCC unroll 4
                for (int i = 0; i < count; i++) sums[i] += columns[stride * i + dx] * weight;
            }
        }
        const Floats slope = load(parameters + 10 * LANES), offset = load(parameters + 11 * LANES);
#pragma GCC unroll 4
        for (int i = 0; i < count; i++) store_pixels(wide, out + i * pixel, 0, prelu(sums[i], slope) + offset);
        row_0 += LANES, row_1 += LANES, row_2 += LANES;
        parameters += 12 * LANES;
        out += LANES * bytes;
    }
}

/* 64 channels, from `channel` on, of a row of a depthwise convolution, quantized. `rows` have a pixel of zeros at both ends. */
INLINE void depthwise(const int wide, const int stride, const Depthwise *d, const float *const rows[3],
                      int width, int channel, uint8_t *out) {
    int x = 0;
    for (; x + 4 <= width; x += 4) depthwise_pixels(wide, stride, 4, d, rows, x, channel, out);
    if (x == width) return;
    /* What is left, with pixels before it once more: four together take less than two alone. */
    if (width >= 4)
        depthwise_pixels(wide, stride, 4, d, rows, width - 4, channel, out);
    else
        for (; x < width; x++) depthwise_pixels(wide, stride, 1, d, rows, x, channel, out);
}

/* Three rows in turn, and one of zeros for what lies outside. */
typedef struct {
    float *rows[4];
    size_t stride;
} Ring;

static Ring new_ring(const Rooms *r, int width, int channels) {
    Ring ring = {.stride = spaced(channels)};
    const size_t size = (width + 2) * ring.stride, pixel = ring.stride * sizeof(float);
    for (int i = 0; i < 3; i++) {
        ring.rows[i] = r->rows + i * size;
        memset(ring.rows[i], 0, pixel);
        memset(ring.rows[i] + size - ring.stride, 0, pixel);
    }
    ring.rows[3] = r->zeros;
    return ring;
}

INLINE const float *ring_row(const Ring *ring, int row, int height) {
    return ring->rows[row < 0 || row >= height ? 3 : row % 3];
}

/* A row of the first convolution, 3x3 with stride 2 from planes to pixels. */
static void stem(const Network *n, const Rooms *r, int row, int width, float *out) {
    const ptrdiff_t stride = plane_width(n);
    const int channels = n->stem_channels;
    const int32_t *weights = (const int32_t *)n->stem;
    for (int x = 0; x < width; x += 4) {
        const int32_t *center = weighed(n, r) + 2 * row * stride + 2 * x;
        for (int c = 0; c < channels; c += BLOCK * LANES) {
            Ints sums[4][BLOCK];
#pragma GCC unroll 4
            for (int i = 0; i < 4; i++)
#pragma GCC unroll 4
                for (int j = 0; j < BLOCK; j++) sums[i][j] = load_ints(n->stem_bias + c + j * LANES);
            for (int tap = 0; tap < 9; tap++) {
                const int32_t *from = center + (tap / 3 - 1) * stride + tap % 3 - 1;
                Ints w[BLOCK];
#pragma GCC unroll 4
                for (int j = 0; j < BLOCK; j++) w[j] = load_ints(weights + (size_t)tap * channels + c + j * LANES);
#pragma GCC unroll 4
                for (int i = 0; i < 4; i++) {
                    const Ints pixel = from[2 * i] - (Ints){0};
#pragma GCC unroll 4
                    for (int j = 0; j < BLOCK; j++) sums[i][j] = multiply_shorts(sums[i][j], pixel, w[j]);
                }
            }
            for (int i = 0; i < 4 && x + i < width; i++)
#pragma GCC unroll 4
                for (int j = 0; j < BLOCK; j++) {
                    const int at = c + j * LANES;
                    const Floats sum = __builtin_convertvector(sums[i][j], Floats);
                    store(out + (x + i) * spaced(channels) + at, prelu(sum, load(n->stem_slope + at)));
                }
        }
    }
}

INLINE void bottleneck(const int wide, const int stride, const Bottleneck *b, const Rooms *r, int height,
                       int width, const uint8_t *pixels, const float *stream, Quantization next, uint8_t *out_pixels,
                       int keeps_stream, float *out_stream) {
    const int out_height = stride == 2 ? halved(height) : height, out_width = stride == 2 ? halved(width) : width;
    const size_t bytes = wide ? 2 : 1, channels = b->project.out_channels;
    Ring ring = new_ring(r, width, b->expand.out_channels);
    for (int row = 0; row < out_height; row++) {
        const int first = row == 0 ? 0 : row * stride + 2 - stride, last = row * stride + 1;
        const float *const rows[3] = {ring_row(&ring, row * stride - 1, height), ring_row(&ring, row * stride, height),
                                      ring_row(&ring, row * stride + 1, height)};
        /* 64 channels after the other: what was just computed of them is still in the nearest cache. */
        for (int channel = 0; channel < b->expand.out_channels; channel += BLOCK * LANES) {
            for (int k = first; k <= last && k < height; k++) {
                const Destination hidden = {.stride = ring.stride, .floats = ring.rows[k % 3] + ring.stride};
                pointwise(wide, 1, &b->expand, pixels + (size_t)k * width * b->expand.in_channels * bytes, width, channel,
                          &hidden);
            }
            depthwise(wide, stride, &b->depthwise, rows, out_width, channel, r->quantized_row);
        }
        const size_t at = (size_t)row * out_width * channels;
        const Destination out = {
            .stride = channels,
            .floats = keeps_stream ? out_stream + at : NULL,
            .quantized = out_pixels + at * bytes,
            .quantization = next,
            .residual = b->is_residual ? stream + at : NULL,
        };
        for (int channel = 0; channel < (int)channels; channel += BLOCK * LANES)
            pointwise(wide, 0, &b->project, r->quantized_row, out_width, channel, &out);
    }
}

INLINE void backbone(const int wide, const Network *n, const Rooms *r, float *embedding) {
    int height = halved(n->num_mel_bins), width = halved(n->num_frames);
    Ring ring = new_ring(r, width, n->stem_channels);
    int computed = 0;
    for (int row = 0; row < height; row++) {
        for (; computed <= row + 1 && computed < height; computed++)
            stem(n, r, computed, width, ring.rows[computed % 3] + ring.stride);
        const float *const rows[3] = {ring_row(&ring, row - 1, height), ring_row(&ring, row, height),
                                      ring_row(&ring, row + 1, height)};
        for (int channel = 0; channel < n->stem_channels; channel += BLOCK * LANES)
            depthwise(wide, 1, &n->stem_depthwise, rows, width, channel,
                      r->pixels[0] + (size_t)row * width * n->stem_channels * (wide ? 2 : 1));
    }
    int now = 0;
    for (int i = 0; i < n->num_bottlenecks; i++) {
        const Bottleneck *b = &n->bottlenecks[i];
        const Quantization next = i + 1 < n->num_bottlenecks ? n->bottlenecks[i + 1].input : n->head_input;
        /* Only a residual connection reads what goes into a bottleneck once more. */
        const int keeps_stream = i + 1 < n->num_bottlenecks && n->bottlenecks[i + 1].is_residual;
        if (b->depthwise.stride == 2) {
            bottleneck(wide, 2, b, r, height, width, r->pixels[now], r->stream[now], next, r->pixels[!now],
                       keeps_stream, r->stream[!now]);
            height = halved(height), width = halved(width);
        } else {
            bottleneck(wide, 1, b, r, height, width, r->pixels[now], r->stream[now], next, r->pixels[!now],
                       keeps_stream, r->stream[!now]);
        }
        now = !now;
    }
    const size_t channels = n->head_channels, in_bytes = (size_t)n->head.in_channels * (wide ? 2 : 1);
    float *pooled = r->rows;
    memcpy(pooled, n->global_bias, channels * sizeof(float));
    const Destination head = {.stride = channels, .floats = r->row};
    for (int row = 0; row < height; row++) {
        for (int channel = 0; channel < n->head_channels; channel += BLOCK * LANES)
            pointwise(wide, 1, &n->head, r->pixels[now] + (size_t)row * width * in_bytes, width, channel, &head);
        const float *weights = n->global_depthwise + (size_t)row * width * channels;
        for (int x = 0; x < width; x++)
            for (size_t c = 0; c < channels; c += LANES)
                store(pooled + c, load(pooled + c) + load(r->row + x * channels + c) * load(weights + x * channels + c));
    }
    for (int e = 0; e < n->embedding_size; e++) embedding[e] = n->embedding_bias[e];
    for (size_t c = 0; c < channels; c++) {
        const float value = pooled[c], *weights = n->embedding + c * n->embedding_size;
        for (int e = 0; e < n->embedding_size; e++) embedding[e] += value * weights[e];
    }
}

/* Compiled apart, so that each has its constants. */
static __attribute__((noinline)) void backbone_of_bytes(const Network *n, const Rooms *r, float *embedding) {
    backbone(0, n, r, embedding);
}
static __attribute__((noinline)) void backbone_of_shorts(const Network *n, const Rooms *r, float *embedding) {
    backbone(1, n, r, embedding);
}

/* One clip, in a workspace that was zeros or has had another clip of this network: (clip_length) -> (embedding_size),
 * (num_labels), (SPECTRA_ROWS, bins), (representations, bins, frames). */
void asd_run(const Network *n, const float *waveform, void *workspace, float *embedding, float *cosines, float *spectra,
             float *maps) {
    Rooms r;
    lay_out(n, workspace, &r);
    /* The log-mel is wanted for its statistics even where the network does not see it. */
    float *log_mel_rows = n->log_mel_position < 0 ? (float *)weighed(n, &r) : plane(n, r.representations, n->log_mel_position);
    log_mel(n, waveform, &r, log_mel_rows);
    statistics(n, log_mel_rows, spectra);
    if (n->wavegram_position >= 0) wavegram(n, waveform, &r, plane(n, r.representations, n->wavegram_position));
    if (n->use_attention)
        attention(n, &r, maps);
    else
        all_weights_1(n, &r);
    if (n->is_wide)
        backbone_of_shorts(n, &r, embedding);
    else
        backbone_of_bytes(n, &r, embedding);
    double length = 0;
    for (int e = 0; e < n->embedding_size; e++) length += (double)embedding[e] * embedding[e];
    const float scale = 1.0f / fmaxf((float)sqrt(length), 1e-12f);
    for (int k = 0; k < n->num_labels; k++) cosines[k] = 0;
    for (int e = 0; e < n->embedding_size; e++) {
        const float value = embedding[e] * scale, *centres = n->centres + (size_t)e * n->num_labels;
        for (int k = 0; k < n->num_labels; k++) cosines[k] += value * centres[k];
    }
}

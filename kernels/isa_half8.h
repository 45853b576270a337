/* Eight halves to f32 and back, by F16C and AVX2: for isa_panel.h. */
typedef uint16_t H8 __attribute__((vector_size(16)));
static inline void widen8(float *dst, H8 h, DType from) {
    __m128i x = (__m128i)h;
    __m256 w =
        from == F16
            ? _mm256_cvtph_ps(x)
            : _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(x), 16));
    _mm256_storeu_ps(dst, w);
}
/* bf16: half of the last kept bit is added, and the rest cut; not-a-number stays one. */
static inline H8 narrow8(const float *src, DType to) {
    const __m256 x = _mm256_loadu_ps(src);
    if (to == F16) return (H8)_mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT);
    const __m256i u = _mm256_castps_si256(x);
    const __m256i odd =
        _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
    __m256i r = _mm256_add_epi32(u, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7FFF)));
    const __m256i nan = _mm256_or_si256(u, _mm256_set1_epi32(0x400000));
    r = _mm256_blendv_epi8(r, nan,
                           _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q)));
    r = _mm256_srli_epi32(r, 16);
    return (H8)_mm_packus_epi32(_mm256_castsi256_si128(r),
                                _mm256_extracti128_si256(r, 1));
}

/* SHA-256 and HMAC-SHA-256: published vectors, and the same as libcrypto's other interface says. */
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "sha256.h"
#include "test.h"

enum { DIGEST = SHA256_DIGEST_LENGTH, HEX = 2 * DIGEST };

static struct slice hex(const unsigned char digest[DIGEST], char text[HEX + 1]) {
    for (size_t i = 0; i < DIGEST; i++)
        snprintf(text + 2 * i, 3, "%02x", digest[i]);
    return slice_make(text, HEX);
}

/* FIPS 180-2 appendix B, whole and a byte at a time. */
static void test_hash(void) {
    static const struct {
        const char *text, *digest;
    } rows[] = {
        {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
         "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct slice text = slice_from_cstr(rows[i].text);
        unsigned char digest[DIGEST];
        char shown[HEX + 1];
        struct sha256 hash;
        sha256_init(&hash);
        sha256_update(&hash, text);
        sha256_final(&hash, digest);
        CHECK_STR(hex(digest, shown), rows[i].digest);
        sha256_init(&hash);
        for (size_t k = 0; k < text.len; k++)
            sha256_update(&hash, slice_sub(text, k, k + 1));
        sha256_final(&hash, digest);
        CHECK_STR(hex(digest, shown), rows[i].digest);
    }
}

/* RFC 4231 section 4: cases 1, 2, 3, 6 and 7. */
static void test_vectors(void) {
    unsigned char long_key[131], key[20], fifty[50];
    memset(long_key, 0xaa, sizeof long_key);
    memset(key, 0x0b, sizeof key);
    memset(fifty, 0xdd, sizeof fifty);
    const struct {
        struct slice key, text;
        const char *digest;
    } rows[] = {
        {slice_make(key, 20), SLICE("Hi There"),
         "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"},
        {SLICE("Jefe"), SLICE("what do ya want for nothing?"),
         "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"},
        {slice_make(long_key, 20), slice_make(fifty, 50),
         "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"},
        {slice_make(long_key, 131), SLICE("Test Using Larger Than Block-Size Key - Hash Key First"),
         "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"},
        {slice_make(long_key, 131),
         SLICE("This is a test using a larger than block-size key and a larger than block-size "
               "data. The key needs to be hashed before being used by the HMAC algorithm."),
         "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct sha256_hmac hmac;
        unsigned char digest[DIGEST];
        char shown[HEX + 1];
        sha256_hmac_init(&hmac, rows[i].key);
        /* Again and again from the same states. */
        for (size_t n = 0; n < 2; n++) {
            sha256_hmac(&hmac, rows[i].text, digest);
            CHECK_STR(hex(digest, shown), rows[i].digest);
        }
    }
}

/* Each length around the blocks, of keys and of texts. */
static void test_lengths(void) {
    unsigned char bytes[200], digest[DIGEST], other[DIGEST];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (unsigned char)(i * 37 + 11);
    for (size_t key_len = 1; key_len < 140; key_len += key_len < 60 || key_len > 66 ? 7 : 1) {
        struct sha256_hmac hmac;
        sha256_hmac_init(&hmac, slice_make(bytes, key_len));
        for (size_t len = 0; len <= sizeof bytes; len++) {
            unsigned n = 0;
            sha256_hmac(&hmac, slice_make(bytes, len), digest);
            REQUIRE(HMAC(EVP_sha256(), bytes, (int)key_len, bytes, len, other, &n) != NULL);
            CHECK_SLICE(slice_make(digest, DIGEST), slice_make(other, n));
        }
    }
}

TEST_MAIN(TEST(test_hash), TEST(test_vectors), TEST(test_lengths))

/*
 * A name is folded first: "X-Api-Key", "x_api_key" and "xApiKey" are "xapikey". What a program
 * calls a secret is mostly a word of the list with something in front ("db_password",
 * "github_token"), so that most rows are endings; the few that nobody uses for anything else are
 * looked for anywhere. Against that stand endings which are known to be none, such as the cursors
 * of lists: "next_page_token".
 *
 * docs/AUDIT.md shows the list.
 */
#include "names.h"

#include "base/compiler.h"

enum where { WHOLE, AT_END, ANYWHERE };

struct row {
    struct slice text;
    enum where where;
    enum name_kind kind;
};

static const struct row secrets[] = {
    {SLICE_INIT("password"), ANYWHERE, NAME_SECRET},
    {SLICE_INIT("passwd"), ANYWHERE, NAME_SECRET},
    {SLICE_INIT("passphrase"), ANYWHERE, NAME_SECRET},
    {SLICE_INIT("apikey"), ANYWHERE, NAME_SECRET},
    {SLICE_INIT("privatekey"), ANYWHERE, NAME_SECRET},
    {SLICE_INIT("secret"), WHOLE, NAME_WORD},
    {SLICE_INIT("secrets"), WHOLE, NAME_WORD},
    {SLICE_INIT("secret"), ANYWHERE, NAME_SECRET},
    {SLICE_INIT("token"), WHOLE, NAME_WORD},
    {SLICE_INIT("token"), AT_END, NAME_SECRET},
    {SLICE_INIT("accesstokens"), AT_END, NAME_SECRET},
    {SLICE_INIT("refreshtokens"), AT_END, NAME_SECRET},
    {SLICE_INIT("authtokens"), AT_END, NAME_SECRET},
    {SLICE_INIT("apitokens"), AT_END, NAME_SECRET},
    {SLICE_INIT("tokenvalue"), AT_END, NAME_SECRET},
    {SLICE_INIT("pass"), WHOLE, NAME_WORD},
    {SLICE_INIT("dbpass"), AT_END, NAME_SECRET},
    {SLICE_INIT("userpass"), AT_END, NAME_SECRET},
    {SLICE_INIT("smtppass"), AT_END, NAME_SECRET},
    {SLICE_INIT("storepass"), AT_END, NAME_SECRET},
    {SLICE_INIT("keypass"), AT_END, NAME_SECRET},
    {SLICE_INIT("passcode"), AT_END, NAME_SECRET},
    {SLICE_INIT("pwd"), AT_END, NAME_SECRET},
    {SLICE_INIT("pw"), WHOLE, NAME_WORD},
    {SLICE_INIT("credential"), WHOLE, NAME_WORD},
    {SLICE_INIT("credentials"), WHOLE, NAME_WORD},
    {SLICE_INIT("credential"), AT_END, NAME_SECRET},
    {SLICE_INIT("credentials"), AT_END, NAME_SECRET},
    {SLICE_INIT("creds"), AT_END, NAME_SECRET},
    {SLICE_INIT("auth"), WHOLE, NAME_WORD},
    {SLICE_INIT("basicauth"), AT_END, NAME_SECRET},
    {SLICE_INIT("httpauth"), AT_END, NAME_SECRET},
    {SLICE_INIT("authorization"), WHOLE, NAME_WORD},
    {SLICE_INIT("authorization"), AT_END, NAME_SECRET},
    {SLICE_INIT("authorizationheader"), AT_END, NAME_SECRET},
    {SLICE_INIT("authheader"), AT_END, NAME_SECRET},
    {SLICE_INIT("authcode"), AT_END, NAME_SECRET},
    {SLICE_INIT("authorizationcode"), AT_END, NAME_SECRET},
    {SLICE_INIT("codeverifier"), AT_END, NAME_SECRET},
    {SLICE_INIT("devicecode"), AT_END, NAME_SECRET},
    {SLICE_INIT("clientassertion"), AT_END, NAME_SECRET},
    {SLICE_INIT("samlresponse"), AT_END, NAME_SECRET},
    {SLICE_INIT("samlassertion"), AT_END, NAME_SECRET},
    {SLICE_INIT("bearer"), WHOLE, NAME_WORD},
    {SLICE_INIT("jwt"), AT_END, NAME_SECRET},
    {SLICE_INIT("csrf"), WHOLE, NAME_SECRET},
    {SLICE_INIT("xsrf"), WHOLE, NAME_SECRET},
    {SLICE_INIT("cookie"), WHOLE, NAME_WORD},
    {SLICE_INIT("cookies"), WHOLE, NAME_WORD},
    {SLICE_INIT("cookie"), AT_END, NAME_SECRET},
    {SLICE_INIT("sessionid"), AT_END, NAME_SECRET},
    {SLICE_INIT("sessid"), AT_END, NAME_SECRET},
    {SLICE_INIT("connectsid"), WHOLE, NAME_SECRET},
    {SLICE_INIT("sessionkey"), AT_END, NAME_SECRET},
    {SLICE_INIT("accesskey"), AT_END, NAME_SECRET},
    {SLICE_INIT("accountkey"), AT_END, NAME_SECRET},
    {SLICE_INIT("authkey"), AT_END, NAME_SECRET},
    {SLICE_INIT("decryptionkey"), AT_END, NAME_SECRET},
    {SLICE_INIT("encryptionkey"), AT_END, NAME_SECRET},
    {SLICE_INIT("hmackey"), AT_END, NAME_SECRET},
    {SLICE_INIT("licensekey"), AT_END, NAME_SECRET},
    {SLICE_INIT("masterkey"), AT_END, NAME_SECRET},
    {SLICE_INIT("presharedkey"), AT_END, NAME_SECRET},
    {SLICE_INIT("recoverykey"), AT_END, NAME_SECRET},
    {SLICE_INIT("serviceaccountkey"), AT_END, NAME_SECRET},
    {SLICE_INIT("sharedkey"), AT_END, NAME_SECRET},
    {SLICE_INIT("sharedaccesssignature"), AT_END, NAME_SECRET},
    {SLICE_INIT("signingkey"), AT_END, NAME_SECRET},
    {SLICE_INIT("sshkey"), AT_END, NAME_SECRET},
    {SLICE_INIT("psk"), WHOLE, NAME_SECRET},
    {SLICE_INIT("otp"), WHOLE, NAME_WORD},
    {SLICE_INIT("totp"), WHOLE, NAME_WORD},
    {SLICE_INIT("otpcode"), AT_END, NAME_SECRET},
    {SLICE_INIT("mfacode"), AT_END, NAME_SECRET},
    {SLICE_INIT("onetimecode"), AT_END, NAME_SECRET},
    {SLICE_INIT("smscode"), AT_END, NAME_SECRET},
    {SLICE_INIT("securitycode"), AT_END, NAME_SECRET},
    {SLICE_INIT("verificationcode"), AT_END, NAME_SECRET},
    {SLICE_INIT("recoverycode"), AT_END, NAME_SECRET},
    {SLICE_INIT("recoverycodes"), AT_END, NAME_SECRET},
    {SLICE_INIT("backupcode"), AT_END, NAME_SECRET},
    {SLICE_INIT("backupcodes"), AT_END, NAME_SECRET},
    {SLICE_INIT("pin"), WHOLE, NAME_WORD},
    {SLICE_INIT("pincode"), AT_END, NAME_SECRET},
    {SLICE_INIT("cardpin"), AT_END, NAME_SECRET},
    {SLICE_INIT("cvv"), AT_END, NAME_SECRET},
    {SLICE_INIT("cvc"), AT_END, NAME_SECRET},
    {SLICE_INIT("mnemonic"), WHOLE, NAME_WORD},
    {SLICE_INIT("mnemonicphrase"), AT_END, NAME_SECRET},
    {SLICE_INIT("seedphrase"), AT_END, NAME_SECRET},
    {SLICE_INIT("recoveryphrase"), AT_END, NAME_SECRET},
};

/* What ends so is no secret, though a row above says it is. */
static const struct slice harmless[] = {
    /* Places in lists and streams. */
    SLICE_INIT("pagetoken"),
    SLICE_INIT("nexttoken"),
    SLICE_INIT("prevtoken"),
    SLICE_INIT("previoustoken"),
    SLICE_INIT("continuationtoken"),
    SLICE_INIT("continuetoken"),
    SLICE_INIT("paginationtoken"),
    SLICE_INIT("cursortoken"),
    SLICE_INIT("synctoken"),
    SLICE_INIT("deltatoken"),
    SLICE_INIT("skiptoken"),
    SLICE_INIT("progresstoken"),
    SLICE_INIT("canceltoken"),
    SLICE_INIT("cancellationtoken"),
    SLICE_INIT("idempotencytoken"),
    SLICE_INIT("clientrequesttoken"),
    /* Of language models. */
    SLICE_INIT("bostoken"),
    SLICE_INIT("eostoken"),
    SLICE_INIT("padtoken"),
    SLICE_INIT("unktoken"),
    SLICE_INIT("septoken"),
    SLICE_INIT("clstoken"),
    SLICE_INIT("masktoken"),
    SLICE_INIT("stoptoken"),
    SLICE_INIT("starttoken"),
    SLICE_INIT("endtoken"),
    SLICE_INIT("pertoken"),
    /* About a secret. */
    SLICE_INIT("passwordless"),
    SLICE_INIT("passwordlength"),
    SLICE_INIT("passwordpolicy"),
    SLICE_INIT("passwordrequired"),
    SLICE_INIT("passwordenabled"),
    SLICE_INIT("passwordexpires"),
    SLICE_INIT("passwordexpiry"),
    SLICE_INIT("passwordexpiration"),
    SLICE_INIT("passwordstrength"),
    SLICE_INIT("passwordchangedat"),
    SLICE_INIT("passwordupdatedat"),
    SLICE_INIT("secretary"),
    SLICE_INIT("secretariat"),
    SLICE_INIT("secretname"),
    SLICE_INIT("secretarn"),
    SLICE_INIT("secretref"),
    SLICE_INIT("secretsmanager"),
    SLICE_INIT("secretmanager"),
    SLICE_INIT("apikeyid"),
    SLICE_INIT("apikeyname"),
};

static const struct slice in_query[] = {
    SLICE_INIT("sig"),           SLICE_INIT("signature"),
    SLICE_INIT("xamzsignature"), SLICE_INIT("xgoogsignature"),
    SLICE_INIT("xosssignature"),
};

enum { FOLDED_MAX = 128, SHORTEST = 2 };

/* Of a long name its end. */
static struct slice fold(struct slice name, char folded[FOLDED_MAX]) {
    size_t at = FOLDED_MAX;
    bool is_end = true;
    for (size_t i = name.len; i > 0 && at > 0; i--) {
        char c = name.ptr[i - 1];
        if (c >= 'A' && c <= 'Z')
            c = (char)(c | 0x20);
        bool is_digit = c >= '0' && c <= '9';
        bool is_letter = (c >= 'a' && c <= 'z') || (unsigned char)c >= 0x80;
        if (is_letter || (is_digit && !is_end))
            folded[--at] = c;
        is_end = is_end && !is_letter;
    }
    return slice_make(folded + at, FOLDED_MAX - at);
}

static bool fits(const struct row *row, struct slice folded) {
    if (row->text.len > folded.len ||
        (row->where != ANYWHERE && row->text.ptr[row->text.len - 1] != folded.ptr[folded.len - 1]))
        return false;
    switch (row->where) {
    case WHOLE:
        return slice_eq(folded, row->text);
    case AT_END:
        return slice_ends_with(folded, row->text);
    case ANYWHERE:
        return slice_find(folded, row->text) != SIZE_MAX;
    }
    return false;
}

enum name_kind name_kind_of(struct slice name) {
    UNCLEARED char space[FOLDED_MAX];
    struct slice folded = fold(name, space);
    if (folded.len < SHORTEST)
        return NAME_HARMLESS;
    for (size_t i = 0; i < ARRAY_LEN(secrets); i++) {
        if (!fits(&secrets[i], folded))
            continue;
        for (size_t k = 0; k < ARRAY_LEN(harmless); k++) {
            if (slice_ends_with(folded, harmless[k]))
                return NAME_HARMLESS;
        }
        return secrets[i].kind;
    }
    return NAME_HARMLESS;
}

bool name_is_secret_in_query(struct slice name) {
    UNCLEARED char space[FOLDED_MAX];
    struct slice folded = fold(name, space);
    for (size_t i = 0; i < ARRAY_LEN(in_query); i++) {
        if (slice_eq(folded, in_query[i]))
            return true;
    }
    return false;
}

/* Sentences for what OpenSSL finds, for a person who can do something about it. */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509_vfy.h>
#include <stdbool.h>

#include "tls_private.h"

struct row {
    int code;
    const char *reason;
};

/* What both sides find in the other's certificate. */
static const struct row certificate_rows[] = {
    {X509_V_ERR_CERT_HAS_EXPIRED, "the certificate has expired"},
    {X509_V_ERR_CERT_NOT_YET_VALID, "the certificate is not valid yet"},
    {X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT, "the certificate is self-signed"},
    {X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN,
     "the certificate comes from an authority that is not trusted here"},
    {X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT, "the issuer of the certificate is not known here"},
    {X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY,
     "the issuer of the certificate is not known here"},
    {X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE, "the issuer of the certificate is not known here"},
    {X509_V_ERR_HOSTNAME_MISMATCH, "the certificate is for another name"},
    {X509_V_ERR_IP_ADDRESS_MISMATCH, "the certificate is not for this IP address"},
    {X509_V_ERR_CERT_REVOKED, "the certificate has been revoked"},
    {X509_V_ERR_CERT_SIGNATURE_FAILURE, "the signature of the certificate is wrong"},
    {X509_V_ERR_INVALID_CA, "the issuer of the certificate is not an authority"},
    {X509_V_ERR_PATH_LENGTH_EXCEEDED, "the issuer of the certificate is not an authority"},
    {X509_V_ERR_KEYUSAGE_NO_CERTSIGN, "the issuer of the certificate is not an authority"},
    {X509_V_ERR_PERMITTED_VIOLATION, "the authority must not vouch for this name"},
    {X509_V_ERR_EXCLUDED_VIOLATION, "the authority must not vouch for this name"},
    {X509_V_ERR_EE_KEY_TOO_SMALL, "the key of the certificate is too short"},
    {X509_V_ERR_CA_KEY_TOO_SMALL, "the key of the authority is too short"},
    {X509_V_ERR_CA_MD_TOO_WEAK, "the signature of the certificate is of a weak kind"},
    {X509_V_ERR_CERT_CHAIN_TOO_LONG, "the chain of certificates is too long"},
    {X509_V_ERR_CERT_UNTRUSTED, "the certificate is not trusted"},
    {X509_V_ERR_CERT_REJECTED, "the certificate is not trusted"},
    {X509_V_ERR_OUT_OF_MEM, "out of memory"},
};

/* Reasons of the library "SSL routines"; the alerts of the peer are among them. */
static const struct row client_rows[] = {
    {SSL_R_WRONG_VERSION_NUMBER, "the server does not speak TLS here"},
    {SSL_R_PACKET_LENGTH_TOO_LONG, "the server does not speak TLS here"},
    {SSL_R_BAD_PACKET_LENGTH, "the server does not speak TLS here"},
    {SSL_R_UNSUPPORTED_PROTOCOL, "the server speaks neither TLS 1.2 nor TLS 1.3"},
    {SSL_R_TLSV1_ALERT_PROTOCOL_VERSION, "the server speaks neither TLS 1.2 nor TLS 1.3"},
    {SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE, "the server found no cipher or key that both sides take"},
    {SSL_R_TLSV1_ALERT_INSUFFICIENT_SECURITY,
     "the server found no cipher or key that both sides take"},
    {SSL_R_TLSV1_UNRECOGNIZED_NAME, "the server does not know this name"},
    {SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED, "the server wants a certificate of the client"},
    {SSL_R_SSLV3_ALERT_BAD_CERTIFICATE, "the server wants a certificate of the client"},
    {SSL_R_TLSV1_ALERT_UNKNOWN_CA,
     "the server does not know the issuer of the client's certificate"},
    {SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED,
     "the server says that the client's certificate has expired"},
    {SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN, "the server does not take the client's certificate"},
    {SSL_R_SSLV3_ALERT_UNSUPPORTED_CERTIFICATE,
     "the server does not take the client's certificate"},
    {SSL_R_TLSV1_ALERT_NO_APPLICATION_PROTOCOL, "the server does not offer HTTP/1.1"},
    {SSL_R_TLSV1_ALERT_ACCESS_DENIED, "the server refused access"},
    {SSL_R_TLSV1_ALERT_INTERNAL_ERROR, "the server had an internal error"},
    {SSL_R_DH_KEY_TOO_SMALL, "the server's key exchange is too weak"},
    {SSL_R_EE_KEY_TOO_SMALL, "the key of the certificate is too short"},
    {SSL_R_CA_MD_TOO_WEAK, "the signature of the certificate is of a weak kind"},
    {SSL_R_WRONG_SIGNATURE_TYPE, "the server signs in a way that is not accepted"},
    {SSL_R_EXCESSIVE_MESSAGE_SIZE, "the server's certificates are too long"},
};

static const struct row server_rows[] = {
    {SSL_R_WRONG_VERSION_NUMBER, "the client does not speak TLS"},
    {SSL_R_PACKET_LENGTH_TOO_LONG, "the client does not speak TLS"},
    {SSL_R_BAD_PACKET_LENGTH, "the client does not speak TLS"},
    {SSL_R_UNSUPPORTED_PROTOCOL, "the client speaks neither TLS 1.2 nor TLS 1.3"},
    {SSL_R_VERSION_TOO_LOW, "the client speaks neither TLS 1.2 nor TLS 1.3"},
    {SSL_R_UNKNOWN_PROTOCOL, "the client speaks neither TLS 1.2 nor TLS 1.3"},
    {SSL_R_NO_SHARED_CIPHER, "there is no cipher that both sides take"},
    {SSL_R_NO_SUITABLE_KEY_SHARE, "there is no key exchange that both sides take"},
    {SSL_R_NO_SHARED_GROUPS, "there is no key exchange that both sides take"},
    {SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM, "there is no signature that both sides take"},
    {SSL_R_NO_SHARED_SIGNATURE_ALGORITHMS, "there is no signature that both sides take"},
    {SSL_R_NO_APPLICATION_PROTOCOL, "the client does not offer HTTP/1.1"},
    {SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE, "the client showed no certificate"},
    {SSL_R_EXCESSIVE_MESSAGE_SIZE, "the client's certificates are too long"},
    {SSL_R_CERTIFICATE_VERIFY_FAILED, "the client's certificate is not valid"},
    {SSL_R_TLSV1_ALERT_UNKNOWN_CA, "the client does not know the issuer of our certificate"},
    {SSL_R_SSLV3_ALERT_BAD_CERTIFICATE, "the client does not take our certificate"},
    {SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN, "the client does not take our certificate"},
    {SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED, "to the client, our certificate has expired"},
    {SSL_R_TLSV1_ALERT_PROTOCOL_VERSION, "the client speaks neither TLS 1.2 nor TLS 1.3"},
};

static const char *find(const struct row *rows, size_t n, long code) {
    for (size_t i = 0; i < n; i++) {
        if (rows[i].code == code)
            return rows[i].reason;
    }
    return NULL;
}

static const char *reason_of_certificate(long verified, bool is_server) {
    if (verified == X509_V_ERR_INVALID_PURPOSE)
        return is_server ? "the certificate is not made for clients"
                         : "the certificate is not made for servers";
    const char *reason = find(certificate_rows, ARRAY_LEN(certificate_rows), verified);
    return reason != NULL ? reason : "the certificate is not valid";
}

int tls_reason(const SSL *ssl, const char **ret_reason) {
    const char *reason = NULL;
    bool is_server = SSL_is_server(ssl) != 0;
    long verified = SSL_get_verify_result(ssl);
    unsigned long code;
    if (verified != X509_V_OK) {
        ERR_clear_error();
        *ret_reason = reason_of_certificate(verified, is_server);
        return -EKEYREJECTED;
    }
    while ((code = ERR_get_error()) != 0) {
        if (reason != NULL || ERR_GET_LIB(code) != ERR_LIB_SSL)
            continue;
        reason = is_server ? find(server_rows, ARRAY_LEN(server_rows), ERR_GET_REASON(code))
                           : find(client_rows, ARRAY_LEN(client_rows), ERR_GET_REASON(code));
    }
    if (reason == NULL)
        reason = is_server ? "the client does not keep to the protocol of TLS"
                           : "the server does not keep to the protocol of TLS";
    *ret_reason = reason;
    return -EPROTO;
}

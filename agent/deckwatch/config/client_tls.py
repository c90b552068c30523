"""TLS for every connection that Deckwatch opens: which servers it trusts, and why a handshake failed."""

from __future__ import annotations

import ssl

# https://docs.openssl.org/3.0/man3/X509_STORE_CTX_get_error/#error-codes
_NOT_YET_VALID = 9
_EXPIRED = 10
_WRONG_NAMES = (62, 64)  # a host name, an IP address
# OpenSSL 3.2 and later may report the second for an answer that is not TLS.
_NOT_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE")


def client_context(
    ca_file: str | None = None, cert_file: str | None = None, key_file: str | None = None, *, verify: bool = True
) -> ssl.SSLContext:
    """Make a context that accepts the same servers on every Python version.

    `ca_file` replaces the system's authorities. Raises OSError that names the setting and the file if a file cannot be
    used.
    """
    try:
        context = ssl.create_default_context(cafile=ca_file or None)
    except (OSError, ValueError) as error:
        raise OSError(f"tls.ca_file {ca_file}: {_brief(error)}") from None
    # Python 3.13 sets both. Strict verification refuses certificates without an Authority Key Identifier, which many
    # private authorities issue and which Go and OpenSSL accept. A partial chain may end in an intermediate authority.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if cert_file:
        try:
            # An empty password makes an encrypted key an error. Without it, OpenSSL asks on the terminal.
            context.load_cert_chain(cert_file, key_file or None, password=lambda: "")
        except (OSError, ValueError) as error:
            raise OSError(f"tls.cert_file {cert_file}, tls.key_file {key_file}: {_brief(error)}") from None
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def tls_failure(
    error: ssl.SSLError, *, ca: str = "tls.ca_file", name: str = "url", certificate: str = "tls.cert_file"
) -> str:
    """Say why TLS failed, and what to check: the setting of the authority, server name or client certificate."""
    if isinstance(error, ssl.SSLCertVerificationError):
        message = error.verify_message.rstrip(".")
        if error.verify_code in _WRONG_NAMES:
            return f"TLS failed: {message}. Check {name}"
        if error.verify_code == _EXPIRED:
            return f"TLS failed: {message}. Renew the server's certificate, or the authority's in {ca}"
        if error.verify_code == _NOT_YET_VALID:
            return f"TLS failed: {message}. Check the clocks of the server and of this machine"
        return f"TLS failed: certificate verify failed ({message}). Check {ca}"
    reason = error.reason or ""
    if reason in _NOT_TLS:
        return f"TLS failed: the server does not speak TLS on this port. Check {name}"
    if "_ALERT_" in reason and reason.endswith(("CERTIFICATE", "REQUIRED", "EXPIRED", "REVOKED", "UNKNOWN", "CA")):
        alert = reason.partition("_ALERT_")[2].replace("_", " ").lower()
        return f"TLS failed: the server refused the client certificate ({alert}). Check {certificate}"
    return f"TLS failed: {reason or _brief(error)}"


def _brief(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)

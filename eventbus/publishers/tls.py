"""The TLS context that a TlsConfig means; the same for every broker."""

from __future__ import annotations

import os
import ssl

from eventbus.config import TlsConfig
from eventbus.errors import ConfigError


def tls_context(tls: TlsConfig) -> ssl.SSLContext:
    """Read the files that it names. Raises ConfigError that says which cannot be used and why, with nothing secret."""
    try:
        context = ssl.create_default_context(cafile=tls.ca_file)
    except (OSError, ValueError) as error:
        raise ConfigError(f"tls: ca_file {os.fspath(tls.ca_file or '')!r} cannot be used: {why(error)}") from None
    if tls.cert_file is not None:
        try:
            # Without a password OpenSSL would ask for one at the terminal.
            context.load_cert_chain(tls.cert_file, tls.key_file, password=tls.key_password or "")
        except (OSError, ValueError) as error:
            files = " and ".join(repr(os.fspath(file)) for file in (tls.cert_file, tls.key_file) if file is not None)
            raise ConfigError(
                f"tls: certificate and key {files} cannot be used: {why(error)}; see cert_file, key_file, key_password"
            ) from None
    return context


def why(error: Exception) -> str:
    """The reason of an error of ssl or of the operating system, in a few words."""
    reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or type(error).__name__
    return str(reason).lower().replace("_", " ")

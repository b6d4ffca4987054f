//! Load-balanced calls over a QUIC cluster with mutual TLS.

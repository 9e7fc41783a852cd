//! The control plane: API, authentication, gateway, store, audit.

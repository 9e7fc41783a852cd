//! RFB (VNC) wire format, sans-I/O.

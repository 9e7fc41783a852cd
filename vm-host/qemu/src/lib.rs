//! The QEMU driver: command line, QMP, D-Bus display, guest agent, template and clone.

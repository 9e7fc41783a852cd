//! The host agent: makes the desired set of this host so and reports what it observes.

//! What a host was told and what it has. Pure: it makes and ends nothing itself, it says what is to be made and ended.
//!
//! ```text
//! Desired ──► follow ──► Begin, Change, End, Tell ──► whoever runs virtual machines
//!                                                              │
//! Observed ◄── complete, Tell ◄── observe ◄────────────────────┘ what became of them
//! ```
//!
//! Its rules are what keeps a desktop from running twice, whatever messages come late, twice or never:
//!
//! * What an earlier link or an earlier revision said is refused ([`Refusal`]).
//! * A desktop is in the ledger from the moment it is to be made until it was reported as gone and is not asked about any
//!   more. So what is not in it is not here, and will not be made by anything that was said before.
//! * A desktop of one generation is made once. Where it may not be made anew and is not here, that is reported as gone.
//! * Of a desktop's generations one is here at a time: a higher one waits until the lower one is gone.
//! * A desktop that persists is powered off and started by wishes that rise: one that was followed before, or a lower one,
//!   changes nothing. No wish but that for its absence destroys it.
//!
//! The host agent, `host --sim` and the simulation all act by this one ledger. Knows nothing of QEMU, of sockets or of
//! the broker's database.

mod ledger;

pub use ledger::{Ledger, Order, Refusal};

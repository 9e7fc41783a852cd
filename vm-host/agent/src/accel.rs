//! Choosing what executes guests: KVM where it runs ordinary guests, QEMU's translator everywhere else.

use lucarne_qemu::Accel;
use lucarne_vmm::{Probe, probe};

/// What the administrator asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AccelChoice {
    /// KVM if the probe finds it usable, else TCG.
    #[default]
    Auto,
    /// KVM or nothing.
    Kvm,
    /// TCG.
    Tcg,
}

/// The choice and its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// What is used.
    pub accel: Accel,
    /// Why, for the administrator.
    pub reason: String,
}

/// KVM was asked for and is not usable.
#[derive(Debug, thiserror::Error)]
#[error("KVM was asked for and is not usable: {0}; use --accel auto or --accel tcg")]
pub struct AccelError(String);

/// Decides; probes KVM unless TCG was asked for.
///
/// # Errors
/// When KVM was asked for and does not run ordinary guests.
pub fn choose(choice: AccelChoice) -> Result<Chosen, AccelError> {
    if choice == AccelChoice::Tcg {
        return Ok(Chosen { accel: Accel::Tcg, reason: "asked for".into() });
    }
    decide(choice, &probe())
}

fn decide(choice: AccelChoice, probe: &Probe) -> Result<Chosen, AccelError> {
    match (probe, choice) {
        (Probe::Usable, _) => {
            Ok(Chosen { accel: Accel::Kvm, reason: "KVM runs ordinary guests on this machine".into() })
        }
        (Probe::Unusable(reason), AccelChoice::Kvm) => Err(AccelError(reason.to_string())),
        (Probe::Unusable(reason), _) => {
            Ok(Chosen { accel: Accel::Tcg, reason: format!("KVM is not usable: {reason}") })
        }
    }
}

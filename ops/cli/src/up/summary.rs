//! What `lucarne up` prints once everything runs.

use crate::up::broker::Announcement;
use lucarne_control::api::Host;
use std::path::Path;

/// Prints it.
pub fn print(announced: &Announcement, host: &Host, data_dir: &Path) {
    let accel = match host.facts.accel.as_str() {
        "kvm" => format!("KVM ({})", host.facts.accel_reason),
        other => format!("{} ({})", other.to_uppercase(), host.facts.accel_reason),
    };
    println!();
    println!("  Lucarne is up.");
    println!();
    println!("    Open          https://{}/", announced.address);
    match &announced.initial_admin {
        Some((name, password)) => println!("    Sign in as    {name}   password  {password}"),
        None => println!(
            "    Sign in as    admin   with the password that you set (`lucarne user password admin` sets another)"
        ),
    }
    println!("    Certificate   self-signed; SHA-256 {}", announced.fingerprint);
    if let Some(vnc) = announced.vnc_address {
        println!("    VNC viewers   {vnc}  (user name and password as above)");
        println!(
            "                  xtigervncviewer -X509CA {}/broker/tls/cert.pem {}::{}",
            data_dir.display(),
            vnc.ip(),
            vnc.port()
        );
        if let Some(fingerprint) = &announced.vnc_fingerprint {
            println!("                  viewers without certificates show the RSA key {fingerprint}");
        }
    }
    if let Some(address) = announced.metrics_address {
        println!("    Monitoring    http://{address}/metrics");
    }
    println!("    Processor     {accel}");
    println!("    Network       {}", host.facts.network);
    println!("    Data          {}", data_dir.display());
    println!();
    println!("  Ctrl-C ends everything and destroys the desktops.");
}

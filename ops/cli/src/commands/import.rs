//! `lucarne image import`: check, convert, boot once, and only then add to this machine's store.

use crate::args::{Image, ImageCommand, ImageFormat};
use crate::commands::image::{cancel_on_signals, open_store};
use crate::output;
use crate::progress::Progress;
use anyhow::{Context, Result, bail};
use lucarne_control::spec::{ImageDigest, ImageInfo, MachineShape, TemplateSpec};
use lucarne_images::import::{ImportFormat, ImportOptions, Prepared, import_prepare};
use lucarne_images::today;
use lucarne_qemu::template::TemplateRequest;
use lucarne_qemu::{Accel, Qemu, Template};
use std::path::Path;

impl From<ImageFormat> for ImportFormat {
    fn from(format: ImageFormat) -> Self {
        match format {
            ImageFormat::Qcow2 => Self::Qcow2,
            ImageFormat::Raw => Self::Raw,
            ImageFormat::Vmdk => Self::Vmdk,
            ImageFormat::Vhdx => Self::Vhdx,
        }
    }
}

/// Runs the command.
pub async fn run(args: Image) -> Result<()> {
    let ImageCommand::Import { file, format, name, version, accel } = args.command else {
        bail!("not an import");
    };
    let qemu = Qemu::find()?;
    let store = open_store(&args.remote.data_dir)?;
    let cancel = cancel_on_signals()?;
    let version = version.unwrap_or_else(today);
    let options = ImportOptions { name, version, cancel: cancel.clone(), ..ImportOptions::default() };
    let path = file.clone();
    let (prepared, known): (Prepared, _) = tokio::task::spawn_blocking(move || {
        let mut shown = Progress::new("Import");
        let mut report = |p: lucarne_images::Progress| shown.set(p.percent, &p.message);
        let prepared = import_prepare(&path, format.into(), &store, options, &mut report);
        let prepared = prepared.and_then(|prepared| {
            let known = prepared.known()?;
            Ok((prepared, known))
        });
        match &prepared {
            Ok((_, None)) => shown.done("checked and converted"),
            Ok((_, Some(image))) => shown.done(&format!(
                "nothing to do; the same disk is here already, as {} {}",
                image.name, image.version
            )),
            Err(_) => shown.failed(),
        }
        prepared
    })
    .await?
    .with_context(|| format!("{} could not be imported", file.display()))?;

    if let Some(image) = known {
        return output::show(&image, args.remote.output);
    }
    let chosen = lucarne_agent::choose(accel.into())?;
    let disk = prepared.disk();
    let boot = verify_by_booting(&qemu, chosen.accel, &disk, &args.remote.data_dir);
    let boot = tokio::select! {
        boot = boot => boot,
        () = async {
            while !cancel.is_cancelled() {
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        } => Err(anyhow::anyhow!("cancelled")),
    };
    boot.with_context(|| {
        format!("{} was not imported, because it does not boot to a desktop", file.display())
    })?;
    let image: ImageInfo = tokio::task::spawn_blocking(move || {
        let mut shown = Progress::new("Store");
        let mut report = |p: lucarne_images::Progress| shown.set(p.percent, &p.message);
        let image = prepared.commit(true, &mut report);
        match &image {
            Ok(image) => shown.done(image.digest.short()),
            Err(_) => shown.failed(),
        }
        image
    })
    .await??;
    output::show(&image, args.remote.output)
}

/// Boots the disk as a template would, to a painted and idle desktop whose guest agent answers, and throws the result
/// away.
async fn verify_by_booting(qemu: &Qemu, accel: Accel, disk: &Path, data_dir: &Path) -> Result<()> {
    let work = std::path::absolute(data_dir)?.join("host").join(format!("verify-{}", std::process::id()));
    std::fs::create_dir_all(&work)?;
    let image = ImageDigest::try_from("0".repeat(64))?;
    let spec = TemplateSpec { image, machine: MachineShape::default() };
    let credentials = rustix::process::geteuid().is_root().then(lucarne_agent::template_credentials);
    let request = TemplateRequest {
        qemu,
        accel,
        spec: &spec,
        image: disk,
        image_format: "qcow2",
        templates: &work,
        credentials: credentials.as_ref(),
    };
    let mut shown = Progress::new("Boot");
    let booted = Template::build(&request, &mut |percent, what| shown.set(percent, what)).await;
    let _ = std::fs::remove_dir_all(&work);
    match booted {
        Ok(template) => {
            shown.done(&format!("a desktop after {:.1} s", template.meta.cold_boot_s));
            Ok(())
        }
        Err(error) => {
            shown.failed();
            Err(error.into())
        }
    }
}

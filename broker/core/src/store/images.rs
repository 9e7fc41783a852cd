//! Images, and which hosts have them in their stores.

use super::links::Link;
use super::{Error, Result, Store, all, rows};
use lucarne_control::HostId;
use lucarne_control::api;
use lucarne_control::spec::{ImageDigest, ImageInfo};
use lucarne_db::Tx;
use lucarne_db::tables::{Desktop, Host, HostImage, Image, Pool};

/// Forgets an image that no host has and no pool needs.
fn forget_gone(tx: &mut Tx<'_>, digest: &ImageDigest) -> Result<()> {
    // Held first: whoever adds it to a host or a pool holds it too.
    let Some(image) = tx.lock(Image::key(digest))? else { return Ok(()) };
    let kept = tx.find(HostImage::of(digest))?.is_some()
        || tx.list(Pool::on_image(digest))?.iter().any(|pool| pool.deleted_at.is_none());
    if !kept {
        tx.delete(image)?;
    }
    Ok(())
}

fn view(tx: &mut Tx<'_>, image: Image) -> Result<api::Image> {
    let on = tx.list(HostImage::of(&image.digest))?;
    let mut hosts: Vec<String> =
        tx.peek_all(on.iter().map(|h| Host::key(&h.host_id)))?.into_iter().map(|h| h.name).collect();
    hosts.sort();
    Ok(api::Image {
        digest: image.digest,
        name: image.name,
        version: image.version,
        description: image.description,
        virtual_size: image.virtual_size,
        stored_size: image.stored_size,
        created_at: image.created_at,
        source: image.source,
        hosts,
    })
}

fn take_over(tx: &mut Tx<'_>, host: HostId, host_name: &str, image: &ImageInfo) -> Result<()> {
    let row = Image {
        digest: image.digest.clone(),
        name: image.name.clone(),
        version: image.version.clone(),
        description: image.description.clone(),
        virtual_size: image.virtual_size,
        stored_size: image.stored_size,
        created_at: image.created_at,
        source: image.source.clone(),
    };
    let here = tx.peek(HostImage::key(&host, &image.digest))?.is_some();
    let known = tx.peek(Image::key(&image.digest))?;
    let same = |known: &Image| {
        (&known.name, &known.version, &known.description, known.stored_size)
            == (&row.name, &row.version, &row.description, row.stored_size)
    };
    if here && known.is_some_and(|known| same(&known)) {
        // All hosts say so each time: nobody waits for its row.
        return Ok(());
    }
    match tx.lock(Image::key(&image.digest))? {
        Some(mut known) => {
            (known.name, known.version, known.description) = (row.name, row.version, row.description);
            known.stored_size = row.stored_size;
            tx.update(&known)?;
        }
        None => tx.insert(&row)?,
    }
    if !here {
        tx.insert(&HostImage { host_id: host, digest: image.digest.clone() })?;
        let subject = format!("{} on {host_name}", image.digest.short());
        tx.audit("system", "image.appeared", &subject, &format!("{} {}", image.name, image.version))?;
    }
    Ok(())
}

/// The image that a name (its newest version), a digest, or a unique prefix of 8 digits or more stands for.
pub(super) fn resolve(tx: &mut Tx<'_>, reference: &str) -> Result<Image> {
    if let Some(newest) = tx.find(Image::named(reference).newest_first())? {
        return Ok(newest);
    }
    let all = all(tx, Image::all, |image| image.digest.clone())?;
    if reference.len() < 8 || !reference.bytes().all(|b| b.is_ascii_hexdigit()) {
        let mut names: Vec<_> = all.into_iter().map(|i| i.name).collect();
        names.sort();
        names.dedup();
        return Err(Error::ImageUnclear(if names.is_empty() {
            format!("there is no image {reference:?}, nor any other; build or import one on a host first")
        } else {
            format!("there is no image {reference:?}; there are: {}", names.join(", "))
        }));
    }
    let mut matching = all.into_iter().filter(|i| i.digest.as_str().starts_with(reference));
    match (matching.next(), matching.next()) {
        (Some(image), None) => Ok(image),
        (None, _) => {
            Err(Error::ImageUnclear(format!("there is no image whose digest begins with {reference}")))
        }
        (Some(_), Some(_)) => Err(Error::ImageUnclear(format!(
            "several images' digests begin with {reference}; give more of its digits"
        ))),
    }
}

impl Store {
    /// Takes over what a host says is in its store.
    ///
    /// # Errors
    /// A database fault.
    pub async fn set_host_images(&self, link: &Link, images: &[ImageInfo]) -> Result<()> {
        let (link, mut images) = (link.clone(), images.to_vec());
        // Everybody holds images in this order.
        images.sort_by(|a, b| a.digest.cmp(&b.digest));
        self.write(move |tx| {
            // One host's images are taken over once at a time.
            link.lock(tx)?;
            for before in tx.lock_list(HostImage::on_host(&link.host))? {
                if !images.iter().any(|image| image.digest == before.digest) {
                    let digest = before.digest.clone();
                    tx.delete(before)?;
                    forget_gone(tx, &digest)?;
                }
            }
            images.iter().try_for_each(|image| take_over(tx, link.host, &link.name, image))
        })
        .await
    }

    /// At most `limit` images after this one, by digest.
    ///
    /// # Errors
    /// A database fault.
    pub async fn images(&self, after: Option<ImageDigest>, limit: i64) -> Result<Vec<api::Image>> {
        self.read(move |tx| {
            let select = Image::all().limit(rows(limit));
            let images = tx.list(match &after {
                Some(after) => select.after(after),
                None => select,
            })?;
            images.into_iter().map(|image| view(tx, image)).collect()
        })
        .await
    }

    /// The image that a name (its newest version), a digest, or a unique prefix of 8 digits or more stands for.
    ///
    /// # Errors
    /// [`Error::ImageUnclear`] which says what there is, or a database fault.
    pub async fn resolve_image(&self, reference: &str) -> Result<api::Image> {
        let reference = reference.to_owned();
        self.read(move |tx| {
            let image = resolve(tx, &reference)?;
            view(tx, image)
        })
        .await
    }

    /// Checks that no pool needs an image, before hosts are asked to delete it.
    ///
    /// # Errors
    /// [`Error::InUse`] which names the pools, or a database fault.
    pub async fn check_image_unused(&self, image: &api::Image) -> Result<()> {
        let image = image.clone();
        self.read(move |tx| {
            let mut pools = Vec::new();
            for pool in tx.list(Pool::on_image(&image.digest))? {
                if pool.deleted_at.is_none() || tx.find(Desktop::live_of_pool(&pool.id))?.is_some() {
                    pools.push(pool.name);
                }
            }
            if pools.is_empty() {
                return Ok(());
            }
            pools.sort();
            let by = format!("by the pool(s) {}; delete those first", pools.join(", "));
            Err(Error::InUse { what: "image", name: format!("{} {}", image.name, image.version), by })
        })
        .await
    }

    /// Notes that a host deleted an image.
    ///
    /// # Errors
    /// A database fault.
    pub async fn image_deleted(
        &self,
        actor: &str,
        host: HostId,
        host_name: &str,
        digest: &ImageDigest,
    ) -> Result<()> {
        let (actor, digest) = (actor.to_owned(), digest.clone());
        let subject = format!("{} on {host_name}", digest.short());
        self.write(move |tx| {
            tx.remove(HostImage::key(&host, &digest))?;
            forget_gone(tx, &digest)?;
            Ok(tx.audit(&actor, "image.deleted", &subject, "")?)
        })
        .await
    }
}

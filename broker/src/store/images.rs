//! Images, and which hosts have them in their stores.

use super::{Error, Result, Store, Tx, audit};
use lucarne_control::HostId;
use lucarne_control::api::Image;
use lucarne_control::spec::{ImageDigest, ImageInfo};
use sqlx::FromRow;

#[derive(FromRow)]
struct Columns {
    digest: String,
    name: String,
    version: String,
    description: String,
    virtual_size: i64,
    stored_size: i64,
    created_at: i64,
    source: String,
    hosts: String,
}

impl Columns {
    fn into_image(self) -> Result<Image> {
        Ok(Image {
            digest: ImageDigest::try_from(self.digest).map_err(|e| Error::corrupt("image digest", e.0))?,
            hosts: serde_json::from_str(&self.hosts)
                .map_err(|_| Error::corrupt("list of names", &self.hosts))?,
            name: self.name,
            version: self.version,
            description: self.description,
            virtual_size: self.virtual_size.cast_unsigned(),
            stored_size: self.stored_size.cast_unsigned(),
            created_at: self.created_at,
            source: self.source,
        })
    }
}

macro_rules! select_images {
    ($rest:literal) => {
        concat!(
            "SELECT i.digest, i.name, i.version, i.description, i.virtual_size, i.stored_size, i.created_at, i.source,
                (SELECT json_group_array(h.name) FROM host_images hi JOIN hosts h ON h.id = hi.host_id
                    WHERE hi.digest = i.digest) AS hosts
             FROM images i ",
            $rest
        )
    };
}

/// Forgets images that no host has and no pool needs.
async fn forget_gone(tx: &mut Tx) -> Result<()> {
    sqlx::query(
        "DELETE FROM images WHERE digest NOT IN (SELECT digest FROM host_images)
             AND digest NOT IN (SELECT image FROM pools WHERE deleted_at IS NULL)",
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

impl Store {
    /// Takes over what a host says is in its store.
    ///
    /// # Errors
    /// A database fault.
    pub async fn set_host_images(&self, host: HostId, name: &str, images: &[ImageInfo]) -> Result<()> {
        let mut tx = self.begin().await?;
        let before: Vec<String> = sqlx::query_scalar("SELECT digest FROM host_images WHERE host_id = ?")
            .bind(host.to_string())
            .fetch_all(&mut *tx)
            .await?;
        let digests: Vec<&str> = images.iter().map(|i| i.digest.as_str()).collect();
        let list = serde_json::to_string(&digests).map_err(|e| Error::corrupt("list of digests", e))?;
        sqlx::query(
            "DELETE FROM host_images WHERE host_id = ? AND digest NOT IN (SELECT value FROM json_each(?))",
        )
        .bind(host.to_string())
        .bind(list)
        .execute(&mut *tx)
        .await?;
        for image in images {
            sqlx::query(
                "INSERT INTO images (digest, name, version, description, virtual_size, stored_size, created_at, source)
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?)
                 ON CONFLICT (digest) DO UPDATE SET name = excluded.name, version = excluded.version,
                     description = excluded.description, stored_size = excluded.stored_size",
            )
            .bind(image.digest.as_str())
            .bind(&image.name)
            .bind(&image.version)
            .bind(&image.description)
            .bind(image.virtual_size.cast_signed())
            .bind(image.stored_size.cast_signed())
            .bind(image.created_at)
            .bind(&image.source)
            .execute(&mut *tx)
            .await?;
            sqlx::query("INSERT INTO host_images (host_id, digest) VALUES (?, ?) ON CONFLICT DO NOTHING")
                .bind(host.to_string())
                .bind(image.digest.as_str())
                .execute(&mut *tx)
                .await?;
            if !before.iter().any(|d| d == image.digest.as_str()) {
                let detail = format!("{} {}", image.name, image.version);
                let subject = format!("{} on {name}", image.digest.short());
                audit::write(&mut tx, "system", "image.appeared", &subject, &detail).await?;
            }
        }
        forget_gone(&mut tx).await?;
        Ok(tx.commit().await?)
    }

    /// All images after the digest `after`, by digest.
    ///
    /// # Errors
    /// A database fault.
    pub async fn images(&self, after: &str, limit: i64) -> Result<Vec<Image>> {
        let rows: Vec<Columns> =
            sqlx::query_as(select_images!("WHERE i.digest > ? ORDER BY i.digest LIMIT ?"))
                .bind(after)
                .bind(limit)
                .fetch_all(&self.reader)
                .await?;
        rows.into_iter().map(Columns::into_image).collect()
    }

    /// The image that a name (its newest version), a digest, or a unique prefix of 8 digits or more stands for.
    ///
    /// # Errors
    /// [`Error::ImageUnclear`] which says what there is, or a database fault.
    pub async fn resolve_image(&self, reference: &str) -> Result<Image> {
        let rows: Vec<Columns> = sqlx::query_as(select_images!(
            "WHERE i.name = ? ORDER BY i.created_at DESC, i.version DESC LIMIT 1"
        ))
        .bind(reference)
        .fetch_all(&self.reader)
        .await?;
        if let Some(newest) = rows.into_iter().next() {
            return newest.into_image();
        }
        let all = self.images("", i64::MAX).await?;
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

    /// Checks that no pool needs an image, before hosts are asked to delete it.
    ///
    /// # Errors
    /// [`Error::InUse`] which names the pools, or a database fault.
    pub async fn check_image_unused(&self, image: &Image) -> Result<()> {
        let pools: Vec<String> = sqlx::query_scalar(
            "SELECT name FROM pools p WHERE image = ? AND (deleted_at IS NULL OR EXISTS (SELECT 1
                 FROM desktops d WHERE d.pool_id = p.id AND d.ended_at IS NULL)) ORDER BY name",
        )
        .bind(image.digest.as_str())
        .fetch_all(&self.reader)
        .await?;
        if pools.is_empty() {
            return Ok(());
        }
        let by = format!("by the pool(s) {}; delete those first", pools.join(", "));
        Err(Error::InUse { what: "image", name: format!("{} {}", image.name, image.version), by })
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
        let mut tx = self.begin().await?;
        sqlx::query("DELETE FROM host_images WHERE host_id = ? AND digest = ?")
            .bind(host.to_string())
            .bind(digest.as_str())
            .execute(&mut *tx)
            .await?;
        forget_gone(&mut tx).await?;
        let subject = format!("{} on {host_name}", digest.short());
        audit::write(&mut tx, actor, "image.deleted", &subject, "").await?;
        Ok(tx.commit().await?)
    }
}

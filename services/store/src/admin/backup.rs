//! `mox backup`: the data as of one moment, in a new folder that can take the place of the data directory.

use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Component, Path, PathBuf};
use std::time::Instant;

use mox_proto::admin::v1::{BackupRequest, File, Level};
use tonic::Status;

use super::StoreAdmin;
use super::report::Reporter;
use super::scratch;
use crate::engine::DATABASE;

/// Folder of the files of the configuration in a backup.
pub const CONFIG: &str = "config";
/// What mox has in its data directory, beside the store: the command line's socket, and what need not be kept.
const PASSED_OVER: [&str; 2] = ["ctl.sock", scratch::FOLDER];
/// What others of mox have there.
const KNOWN: [&str; 2] = ["acme", CONFIG];
/// How deep folders are followed.
const DEPTH_MAX: usize = 32;

impl StoreAdmin {
    pub(super) async fn do_backup(&self, request: BackupRequest, reporter: &Reporter) -> Result<(), Status> {
        let began = Instant::now();
        let folder = PathBuf::from(&request.folder);
        let data_dir = self.parts.data_dir.clone();
        let store = folder.join(crate::FOLDER);
        {
            let (folder, store) = (folder.clone(), store.clone());
            blocking(move || prepare(&folder, &store)).await?;
        }
        let detail = |text: String| reporter.say(Level::Detail, "", "", text, &[]);
        let millis = |since: Instant| i64::try_from(since.elapsed().as_millis()).unwrap_or(i64::MAX);

        let at = Instant::now();
        self.parts
            .db
            .checkpoint(store.join(DATABASE))
            .await
            .map_err(|error| {
                Status::internal(format!(
                    "{error}: the store writes the backup on its own host, as the user that mox runs as; give it a \
                     folder that this user can write to, such as one in {}, and remove what is in {} before trying again",
                    data_dir.join(scratch::FOLDER).display(),
                    folder.display()
                ))
            })?;
        let (linked, copied) = {
            let (store, data_dir) = (store.join(DATABASE), data_dir.clone());
            blocking(move || count(&store, &data_dir.join(crate::FOLDER).join(DATABASE))).await?
        };
        detail(format!(
            "database: {linked} files linked, {copied} written, in {} ms",
            millis(at)
        ))
        .await?;

        let at = Instant::now();
        let others = {
            let (data_dir, folder) = (data_dir.clone(), folder.clone());
            blocking(move || copy_others(&data_dir, &folder)).await?
        };
        for path in &others.unrecognized {
            let text = format!("{} is no file of mox: stored nevertheless", path.display());
            reporter.say(Level::Warning, "", "", text, &[]).await?;
        }
        for path in &others.skipped {
            let text = format!("{} is neither a file nor a folder: not stored", path.display());
            reporter.say(Level::Warning, "", "", text, &[]).await?;
        }
        detail(format!("other files: {} copied, in {} ms", others.copied, millis(at))).await?;

        let files = request.config_files;
        let count = files.len();
        {
            let folder = folder.clone();
            blocking(move || {
                for file in &files {
                    write_config(&folder.join(CONFIG), file)?;
                }
                sync(&folder)
            })
            .await?;
        }
        detail(format!("configuration: {count} files")).await?;
        tracing::info!(folder = %folder.display(), milliseconds = millis(began), "backup written");
        detail(format!(
            "backup written to {} in {} ms",
            folder.display(),
            millis(began)
        ))
        .await
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Failed> + Send + 'static) -> Result<T, Status> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| Status::unavailable("the store is shutting down"))?
        .map_err(|failed| Status::failed_precondition(failed.0))
}

/// What went wrong, for people.
struct Failed(String);

fn failed<'a>(doing: &'a str, path: &'a Path) -> impl FnOnce(io::Error) -> Failed + 'a {
    move |error| Failed(format!("{doing} {} on the host of the store: {error}", path.display()))
}

fn make_dir(path: &Path) -> Result<(), Failed> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(failed("making folder", path))
}

/// Makes the folders. What is there already is not written over.
fn prepare(folder: &Path, store: &Path) -> Result<(), Failed> {
    if !folder.is_absolute() || folder.components().any(|c| matches!(c, Component::ParentDir)) {
        return Err(Failed(format!("{} is not an absolute path", folder.display())));
    }
    match std::fs::read_dir(folder) {
        Ok(mut entries) => {
            if entries.next().is_some() {
                return Err(Failed(format!(
                    "{} exists and is not empty: remove what is in it, or name another folder",
                    folder.display()
                )));
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed("looking into folder", folder)(error)),
    }
    make_dir(store)
}

/// How many files of the copy are those of the original, and how many are not.
fn count(copy: &Path, original: &Path) -> Result<(usize, usize), Failed> {
    use std::os::unix::fs::MetadataExt as _;
    let (mut linked, mut copied) = (0, 0);
    for entry in std::fs::read_dir(copy).map_err(failed("looking into folder", copy))? {
        let path = entry.map_err(failed("looking into folder", copy))?.path();
        let one = std::fs::metadata(&path).map_err(failed("looking at", &path))?;
        let same = path
            .file_name()
            .and_then(|name| std::fs::metadata(original.join(name)).ok())
            .is_some_and(|o| o.ino() == one.ino() && o.dev() == one.dev());
        let counted = if same || one.nlink() > 1 {
            &mut linked
        } else {
            &mut copied
        };
        *counted += 1;
    }
    Ok((linked, copied))
}

#[derive(Default)]
struct Others {
    copied: usize,
    unrecognized: Vec<PathBuf>,
    skipped: Vec<PathBuf>,
}

/// Copies what is in the data directory beside the store. Empty folders are left out.
fn copy_others(data_dir: &Path, folder: &Path) -> Result<Others, Failed> {
    let mut others = Others::default();
    for entry in std::fs::read_dir(data_dir).map_err(failed("looking into folder", data_dir))? {
        let entry = entry.map_err(failed("looking into folder", data_dir))?;
        let name = entry.file_name();
        let text = name.to_string_lossy();
        // A backup may lie in the data directory itself.
        if text == crate::FOLDER || PASSED_OVER.contains(&&*text) || folder.starts_with(entry.path()) {
            continue;
        }
        let known = KNOWN.contains(&&*text);
        copy(&entry.path(), &folder.join(&name), known, 0, folder, &mut others)?;
    }
    // The store's own folder has nothing but the database, its lock, and copies from before migrations.
    let store = data_dir.join(crate::FOLDER);
    for entry in std::fs::read_dir(&store).map_err(failed("looking into folder", &store))? {
        let entry = entry.map_err(failed("looking into folder", &store))?;
        let name = entry.file_name();
        let text = name.to_string_lossy();
        if text == DATABASE || text == "lock" || text.starts_with(crate::schema::COPY_PREFIX) {
            continue;
        }
        let to = folder.join(crate::FOLDER).join(&name);
        copy(&entry.path(), &to, false, 0, folder, &mut others)?;
    }
    Ok(others)
}

fn copy(from: &Path, to: &Path, known: bool, depth: usize, folder: &Path, others: &mut Others) -> Result<(), Failed> {
    let kind = std::fs::symlink_metadata(from)
        .map_err(failed("looking at", from))?
        .file_type();
    if kind.is_dir() {
        if depth > DEPTH_MAX {
            return Err(Failed(format!("{}: too many folders in each other", from.display())));
        }
        for entry in std::fs::read_dir(from).map_err(failed("looking into folder", from))? {
            let entry = entry.map_err(failed("looking into folder", from))?;
            if folder.starts_with(entry.path()) {
                continue;
            }
            copy(
                &entry.path(),
                &to.join(entry.file_name()),
                known,
                depth + 1,
                folder,
                others,
            )?;
        }
        return Ok(());
    }
    if kind.is_socket() || kind.is_fifo() || kind.is_block_device() || kind.is_char_device() {
        others.skipped.push(from.to_owned());
        return Ok(());
    }
    if let Some(parent) = to.parent() {
        make_dir(parent)?;
    }
    if kind.is_symlink() {
        let target = std::fs::read_link(from).map_err(failed("reading link", from))?;
        std::os::unix::fs::symlink(target, to).map_err(failed("making link", to))?;
    } else {
        // Not linked: these may change in place.
        let mut source = std::fs::File::open(from).map_err(failed("opening", from))?;
        let mut target = create(to, 0o600)?;
        io::copy(&mut source, &mut target).map_err(failed("copying to", to))?;
        let permissions = source.metadata().map_err(failed("looking at", from))?.permissions();
        target.set_permissions(permissions).map_err(failed("copying to", to))?;
        target.sync_all().map_err(failed("writing", to))?;
    }
    others.copied += 1;
    if !known {
        others.unrecognized.push(from.to_owned());
    }
    Ok(())
}

fn create(path: &Path, mode: u32) -> Result<std::fs::File, Failed> {
    std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .map_err(failed("making", path))
}

fn write_config(folder: &Path, file: &File) -> Result<(), Failed> {
    let path = Path::new(&file.path);
    if path.as_os_str().is_empty() || !path.components().all(|c| matches!(c, Component::Normal(_))) {
        return Err(Failed(format!("{:?} is no path within the configuration", file.path)));
    }
    let to = folder.join(path);
    if let Some(parent) = to.parent() {
        make_dir(parent)?;
    }
    let mut target = create(&to, file.mode & 0o777)?;
    io::Write::write_all(&mut target, &file.data).map_err(failed("writing", &to))?;
    target.sync_all().map_err(failed("writing", &to))
}

/// Names of files are durable when their folders are.
fn sync(folder: &Path) -> Result<(), Failed> {
    for entry in std::fs::read_dir(folder).map_err(failed("looking into folder", folder))? {
        let entry = entry.map_err(failed("looking into folder", folder))?;
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            sync(&entry.path())?;
        }
    }
    let opened = std::fs::File::open(folder).map_err(failed("opening", folder))?;
    opened.sync_all().map_err(failed("writing", folder))?;
    match folder.parent() {
        Some(parent) => std::fs::File::open(parent)
            .and_then(|f| f.sync_all())
            .map_err(failed("writing", parent)),
        None => Ok(()),
    }
}

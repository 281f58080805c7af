//! A file without a name, written and then mapped.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use memmap2::Mmap;
use rustix::fs::{Mode, OFlags};

/// Being written.
#[derive(Debug)]
pub(crate) struct SpoolFile(File);

impl SpoolFile {
    /// In `folder`, without ever having a name in it.
    pub(crate) fn create(folder: &Path) -> io::Result<Self> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        match rustix::fs::open(folder, flags, Mode::RUSR | Mode::WUSR) {
            Ok(file) => Ok(Self(file.into())),
            // File systems without O_TMPFILE (some network and overlay ones): made with a name, which is removed at once.
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR) => Self::create_named(folder),
            Err(error) => Err(error.into()),
        }
    }

    fn create_named(folder: &Path) -> io::Result<Self> {
        tempfile::tempfile_in(folder).map(Self)
    }

    pub(crate) fn append(&mut self, data: &[u8]) -> io::Result<()> {
        self.0.write_all(data)
    }

    /// The whole file as one slice.
    #[allow(unsafe_code)]
    pub(crate) fn map(self) -> io::Result<Mapped> {
        // SAFETY: a mapping is unsound if the file changes under it. This one has no name by which another process or
        // another part of this one could open it; the only handle on it is consumed here, and closed when this function
        // returns, and nothing shortens the file. Every byte was written before, so no page needs room on a full disk.
        let map = unsafe { Mmap::map(&self.0)? };
        Ok(Mapped(map))
    }
}

/// Read-only, until it is dropped; then the file is gone.
#[derive(Debug)]
pub(crate) struct Mapped(Mmap);

impl AsRef<[u8]> for Mapped {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_have_no_name_either_way() {
        let folder = tempfile::tempdir().unwrap();
        for create in [SpoolFile::create, SpoolFile::create_named] {
            let mut file = create(folder.path()).unwrap();
            file.append(b"hello ").unwrap();
            file.append(b"world").unwrap();
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
            assert_eq!(file.map().unwrap().as_ref(), b"hello world");
        }
    }
}

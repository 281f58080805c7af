//! A file without a name, written and then mapped.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use memmap2::{Mmap, UncheckedAdvice};
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

impl Mapped {
    /// Takes its pages out of this process; reading brings them back from the file.
    #[allow(unsafe_code)]
    pub(crate) fn release(&self) {
        // SAFETY: pages that are let go are read again from what they map when they are used. That is the same bytes, as
        // the mapping is shared with the file, is never written through, and the file does not change (see `map`).
        let advised = unsafe { self.0.unchecked_advise(UncheckedAdvice::DontNeed) };
        // A system that does not take the advice keeps them.
        drop(advised);
    }
}

impl AsRef<[u8]> for Mapped {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of a mapping that are in this process (proc(5), smaps).
    fn resident(mapped: &Mapped) -> u64 {
        let at = mapped.as_ref().as_ptr() as u64;
        let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut within = false;
        for line in smaps.lines() {
            let first = line.split(' ').next().unwrap();
            if let Some((from, to)) = first.split_once('-') {
                let address = |text| u64::from_str_radix(text, 16).unwrap();
                within = (address(from)..address(to)).contains(&at);
            } else if let Some(size) = line.strip_prefix("Rss:").filter(|_| within) {
                return 1024 * size.trim().trim_end_matches(" kB").parse::<u64>().unwrap();
            }
        }
        panic!("no mapping at {at:x}");
    }

    #[test]
    fn what_is_released_is_not_in_memory_and_comes_back() {
        const BYTES: usize = 4 << 20;
        let folder = tempfile::tempdir().unwrap();
        let mut file = SpoolFile::create(folder.path()).unwrap();
        let data: Vec<u8> = (0..BYTES).map(|n| (n % 251) as u8).collect();
        file.append(&data).unwrap();
        let mapped = file.map().unwrap();
        for _ in 0..2 {
            assert!(mapped.as_ref() == data);
            assert!(resident(&mapped) >= BYTES as u64);
            mapped.release();
            assert_eq!(resident(&mapped), 0);
        }
    }

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

//! Files in the data directory that are not mox's.

use std::path::Path;

use mox_proto::admin::v1::Level;

use super::{About, Verifier};
use crate::engine::DATABASE;

/// What mox has in its data directory, and a backup besides.
const DATA: [&str; 5] = [crate::FOLDER, "tmp", "ctl.sock", "acme", crate::admin::CONFIG];

impl Verifier<'_> {
    pub(super) fn files(&self) {
        let data_dir = &self.parts.data_dir;
        self.unknown(data_dir, |name| DATA.contains(&name));
        self.unknown(&data_dir.join(crate::FOLDER), |name| {
            name == DATABASE || name == "lock" || name.starts_with(crate::schema::COPY_PREFIX)
        });
    }

    fn unknown(&self, folder: &Path, known: impl Fn(&str) -> bool) {
        let entries = match std::fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) => {
                self.wrong(About::default(), format!("looking into {}: {error}", folder.display()));
                return;
            }
        };
        for entry in entries.flatten() {
            if !entry.file_name().to_str().is_some_and(&known) {
                let text = format!("{} is no file of mox", entry.path().display());
                self.say(Level::Warning, About::default(), text);
            }
        }
    }
}

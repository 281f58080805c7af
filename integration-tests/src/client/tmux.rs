//! Programs that want a screen and keys.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::others::succeed;
use crate::process::run;
use crate::wait;

/// How long a program takes to show something.
const PATIENCE: Duration = Duration::from_secs(30);

/// A terminal with a program in it, which ends with it.
#[derive(Debug)]
pub struct Tmux {
    socket: PathBuf,
}

impl Tmux {
    /// Starts a shell command in a terminal of 120 columns and 40 lines. Its files are in `folder`.
    ///
    /// # Errors
    /// If tmux can't be started.
    pub fn start(folder: &Path, command: &str) -> Result<Self> {
        let tmux = Self {
            socket: folder.join(format!("tmux-{:08x}", rand::random::<u32>())),
        };
        tmux.tell(&["-f", "/dev/null", "new-session", "-d", "-x", "120", "-y", "40", command])?;
        Ok(tmux)
    }

    fn tell(&self, args: &[&str]) -> Result<String> {
        let socket = self.socket.to_string_lossy();
        succeed("tmux", &[&["-S", &socket], args].concat(), "")
    }

    /// Presses keys, by tmux's names for them: `Enter`, `C-c`, `x`.
    ///
    /// # Errors
    /// If the program has ended.
    pub fn keys(&self, keys: &[&str]) -> Result<()> {
        self.tell(&[&["send-keys"], keys].concat()).map(drop)
    }

    /// Types text.
    ///
    /// # Errors
    /// If the program has ended.
    pub fn text(&self, text: &str) -> Result<()> {
        self.tell(&["send-keys", "-l", text]).map(drop)
    }

    /// What the screen shows.
    ///
    /// # Errors
    /// If the program has ended.
    pub fn screen(&self) -> Result<String> {
        self.tell(&["capture-pane", "-p"])
    }

    /// Waits until the screen shows a text.
    ///
    /// # Errors
    /// If it does not in time: with what it shows.
    pub fn shows(&self, text: &str) -> Result<String> {
        self.until(text, |screen| screen.contains(text))
    }

    /// Waits until the screen is as it should be.
    ///
    /// # Errors
    /// If it is not in time: with what it shows.
    pub fn until(&self, what: &str, is: impl Fn(&str) -> bool) -> Result<String> {
        let found = wait::until(&format!("the screen to show {what}"), PATIENCE, || {
            let screen = self.screen()?;
            Ok(is(&screen).then_some(screen))
        });
        found.with_context(|| format!("the screen shows:\n{}", self.screen().unwrap_or_default()))
    }

    /// Waits until the program has ended.
    ///
    /// # Errors
    /// If it does not in time.
    pub fn ended(&self) -> Result<()> {
        wait::until("the program to end", PATIENCE, || Ok(self.screen().err().map(drop)))
            .with_context(|| self.screen().unwrap_or_default())
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        let socket = self.socket.to_string_lossy();
        let _ = run("tmux", &["-S", &socket, "kill-server"], ""); // it may have ended
    }
}

//! Addresses and paths: none panics, and what was understood means the same when it is written and read again.

use mox_smtp::{Command, Path};
use mox_types::{Address, Domain, Localpart};

/// See the top.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(address) = text.parse::<Address>() {
        assert_eq!(
            address.to_string().parse::<Address>().as_ref(),
            Ok(&address),
            "{address}"
        );
        assert_eq!(
            address.to_ascii_domain().parse::<Address>().as_ref(),
            Ok(&address),
            "{address}"
        );
    }
    if let Ok(domain) = text.parse::<Domain>() {
        assert_eq!(domain.ascii().parse::<Domain>().as_ref(), Ok(&domain), "{domain}");
        assert!(domain.ascii().is_ascii());
    }
    if let Ok(localpart) = text.parse::<Localpart>() {
        assert_eq!(
            localpart.to_string().parse::<Localpart>().as_ref(),
            Ok(&localpart),
            "{localpart}"
        );
    }
    let command = |path: &str| Command::parse(format!("MAIL FROM:<{path}>").as_bytes());
    if let Ok(Command::Mail(Some(path), _)) = command(text) {
        let again = command(&path.to_string());
        let Ok(Command::Mail(Some(same), _)) = again else {
            panic!("{text:?} is written {path}, which gives {again:?}");
        };
        let place = |path: &Path| (path.localpart.clone(), path.host.clone());
        assert_eq!(place(&same), place(&path), "{text:?}");
    }
}

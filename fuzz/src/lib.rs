//! What the fuzz targets do with an input: nothing may panic, and what must hold is asserted.
//!
//! Each is run over its corpus by the tests, and over much more by `tools/fuzz`.

mod address;
mod dmarc_report;
mod imap_command;
mod imap_stream;
mod message;
mod proxy_header;
mod report_message;
mod signed_message;
mod smtp_bdat;
mod smtp_command;
mod smtp_data;
mod smtp_reply;
mod spf;
mod tls_policy;
mod tls_report;

pub use address::run as address;
pub use dmarc_report::run as dmarc_report;
pub use imap_command::run as imap_command;
pub use imap_stream::run as imap_stream;
pub use message::run as message;
pub use proxy_header::run as proxy_header;
pub use report_message::run as report_message;
pub use signed_message::run as signed_message;
pub use smtp_bdat::run as smtp_bdat;
pub use smtp_command::run as smtp_command;
pub use smtp_data::run as smtp_data;
pub use smtp_reply::run as smtp_reply;
pub use spf::run as spf;
pub use tls_policy::run as tls_policy;
pub use tls_report::run as tls_report;

#[cfg(test)]
mod tests {
    use std::path::Path;

    fn corpus(target: &str, run: fn(&[u8])) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
        let mut count = 0;
        for entry in std::fs::read_dir(&folder).expect("a folder of inputs") {
            let path = entry.expect("an entry").path();
            println!("{}", path.display());
            run(&std::fs::read(&path).expect("an input"));
            count += 1;
        }
        assert!(count > 0, "no input in {}", folder.display());
    }

    #[test]
    fn imap_command() {
        corpus("imap_command", super::imap_command);
    }

    #[test]
    fn imap_stream() {
        corpus("imap_stream", super::imap_stream);
    }

    #[test]
    fn message() {
        corpus("message", super::message);
    }

    #[test]
    fn smtp_command() {
        corpus("smtp_command", super::smtp_command);
    }

    #[test]
    fn smtp_data() {
        corpus("smtp_data", super::smtp_data);
    }

    #[test]
    fn smtp_reply() {
        corpus("smtp_reply", super::smtp_reply);
    }

    #[test]
    fn signed_message() {
        corpus("signed_message", super::signed_message);
    }

    #[test]
    fn spf() {
        corpus("spf", super::spf);
    }

    #[test]
    fn address() {
        corpus("address", super::address);
    }

    #[test]
    fn proxy_header() {
        corpus("proxy_header", super::proxy_header);
    }

    #[test]
    fn smtp_bdat() {
        corpus("smtp_bdat", super::smtp_bdat);
    }

    #[test]
    fn tls_policy() {
        corpus("tls_policy", super::tls_policy);
    }

    #[test]
    fn dmarc_report() {
        corpus("dmarc_report", super::dmarc_report);
    }

    #[test]
    fn tls_report() {
        corpus("tls_report", super::tls_report);
    }

    #[test]
    fn report_message() {
        corpus("report_message", super::report_message);
    }
}

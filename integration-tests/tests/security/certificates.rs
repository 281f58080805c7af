//! An authority, and certificates of it, made with openssl.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use mox_integration_tests::client::succeed;

/// An authority in a folder.
pub struct Authority {
    folder: PathBuf,
}

/// A certificate and its key, in PEM.
pub struct Certificate {
    pub cert: PathBuf,
    pub key: PathBuf,
}

impl Authority {
    /// Makes one.
    pub fn new(folder: &Path) -> Result<Self> {
        let this = Self {
            folder: folder.to_owned(),
        };
        this.openssl(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=Authority \
             -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign -keyout ca.key -out ca.pem",
        )?;
        Ok(this)
    }

    /// Its certificate.
    pub fn pem(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    fn openssl(&self, args: &str) -> Result<String> {
        let script = format!("cd {} && openssl {args}", self.folder.display());
        succeed("sh", &["-c", &script], "").with_context(|| format!("openssl {args}"))
    }

    /// A certificate for names.
    pub fn issue(&self, file: &str, names: &[String]) -> Result<Certificate> {
        let extensions = self.request(file, names)?;
        self.openssl(&format!(
            "x509 -req -in {file}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -extfile {extensions} -out {file}.crt"
        ))?;
        self.issued(file)
    }

    /// A certificate for names whose time was over long ago.
    pub fn issue_expired(&self, file: &str, names: &[String]) -> Result<Certificate> {
        let extensions = self.request(file, names)?;
        let settings = "[ca]\ndefault_ca=d\n[d]\ndatabase=index.txt\nnew_certs_dir=.\ndefault_md=sha256\nrand_serial=yes\n\
                        policy=p\n[p]\ncommonName=supplied\n";
        fs::write(self.folder.join("ca.conf"), settings)?;
        fs::write(self.folder.join("index.txt"), "")?;
        self.openssl(&format!(
            "ca -batch -notext -config ca.conf -cert ca.pem -keyfile ca.key -in {file}.csr -out {file}.crt \
             -startdate 20200101000000Z -enddate 20200201000000Z -extfile {extensions}"
        ))?;
        self.issued(file)
    }

    /// Makes a key, and a request for a certificate; gives the file with what it is to have.
    fn request(&self, file: &str, names: &[String]) -> Result<String> {
        let names: Vec<String> = names.iter().map(|n| format!("DNS:{n}")).collect();
        let extensions = format!("subjectAltName={}\nextendedKeyUsage=serverAuth\n", names.join(","));
        fs::write(self.folder.join(format!("{file}.ext")), extensions)?;
        self.openssl(&format!(
            "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN={file} -keyout {file}.key -out {file}.csr"
        ))?;
        Ok(format!("{file}.ext"))
    }

    fn issued(&self, file: &str) -> Result<Certificate> {
        // With what it leads to, as "2 0 1" records need it.
        let path = self.folder.join(format!("{file}.crt"));
        fs::write(&path, [fs::read(&path)?, fs::read(self.pem())?].concat())?;
        // Postfix and mox run as other users.
        for end in ["key", "crt"] {
            let path = self.folder.join(format!("{file}.{end}"));
            let mut mode = fs::metadata(&path)?.permissions();
            std::os::unix::fs::PermissionsExt::set_mode(&mut mode, 0o644);
            fs::set_permissions(&path, mode)?;
        }
        Ok(Certificate {
            cert: self.folder.join(format!("{file}.crt")),
            key: self.folder.join(format!("{file}.key")),
        })
    }
}

/// The data of "3 1 1" and "2 0 1" records.
pub fn digest(of_key: bool, cert: &Path) -> Result<String> {
    let cert = cert.display();
    let der = if of_key {
        format!("openssl x509 -in {cert} -noout -pubkey | openssl pkey -pubin -outform DER")
    } else {
        format!("openssl x509 -in {cert} -outform DER")
    };
    let text = succeed("sh", &["-c", &format!("{der} | openssl dgst -sha256 -r")], "")?;
    let digest = text.split_whitespace().next().context("openssl gives no digest")?;
    Ok(digest.to_owned())
}

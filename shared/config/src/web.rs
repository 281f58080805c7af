//! What the web server answers.

use std::collections::BTreeMap;
use std::path::PathBuf;

use mox_types::Domain;

use crate::section::section;
use crate::value::{Regexp, WebService};

section! {
    /// What the web server answers for some paths of a site: exactly one of web_static, web_redirect, web_forward and
    /// web_internal.
    pub struct WebHandler {
        /// For logs and metrics.
        log_name: String [eg "\"site\""],
        /// The site.
        domain: Domain [required eg "\"www.example.org\""],
        /// Paths, from their start.
        path_regexp: Regexp [required eg "\"^/\""],
        /// Answer over plain HTTP too, instead of leading to HTTPS.
        dont_redirect_plain_http: bool,
        /// Compress what compresses well.
        compress: bool,
        /// Files.
        web_static: Option<WebStatic>,
        /// Another address.
        web_redirect: Option<WebRedirect>,
        /// What another server answers.
        web_forward: Option<WebForward>,
        /// A web application of mox.
        web_internal: Option<WebInternal>,
    }
}

section! {
    /// Files of a folder.
    pub struct WebStatic {
        /// Beginning of the path that is taken off before it is looked for in the folder.
        strip_prefix: String [eg "\"/files/\""],
        /// The folder. A relative path starts at the working folder of mox.
        root: PathBuf [required eg "\"web/\""],
        /// For folders without index.html, list what is in them.
        list_files: bool,
        /// Let the next handler answer when there is no such file.
        continue_not_found: bool,
        /// Added to answers.
        response_headers: BTreeMap<String, String>,
    }
}

section! {
    /// Leading to another address.
    pub struct WebRedirect: Default {
        /// Scheme and host, and query and fragment if the original ones are not kept. Without it, the same site.
        base_url: Option<String> [eg "\"https://example.net\""],
        /// What of the path replace_path refers to.
        orig_path_regexp: Option<Regexp> [eg "\"^/old/(.*)\""],
        /// The new path, with $1 for what the first group matched.
        replace_path: String [eg "\"/new/$1\""],
        /// The kind of redirect: 301, 302, 303, 307 or 308.
        status_code: u16 [= 308],
    }
}

section! {
    /// Forwarding to another server, with X-Forwarded-For, -Host and -Proto. Websockets are forwarded too.
    pub struct WebForward {
        /// Take off what path_regexp matched.
        strip_path: bool,
        /// Where to; its path comes before that of the request.
        url: String [required eg "\"http://127.0.0.1:8080\""],
        /// Added to answers.
        response_headers: BTreeMap<String, String>,
    }
}

section! {
    /// A web application of mox on this site.
    pub struct WebInternal {
        /// Where it is: begins and ends with a slash.
        base_path: String [required eg "\"/\""],
        /// Which one.
        service: WebService [required],
    }
}

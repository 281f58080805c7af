//! `mox setaccountpassword`, `mox setadminpassword`

use std::process::ExitCode;

use mox_proto::control::v1::{SetAccountPasswordRequest, SetAdminPasswordRequest};

use crate::command::{Command, none, parameter, text};
use crate::context::folder_of;
use crate::{control, password};

pub const SET_ACCOUNT_PASSWORD: Command = Command {
    words: &["setaccountpassword"],
    parameters: "account",
    help: "Set a new password for an account.\n\n\
           On a terminal the password is asked for, otherwise it is a line of standard input. It needs at least 8 \
           characters. What is kept are values derived from it, by which it can be checked: a hash for plain logins, and \
           keys for SCRAM-SHA-256, SCRAM-SHA-1 and CRAM-MD5.\n\n\
           The parameter is the name of the account as in domains.toml, not an email address.",
    arguments: || vec![parameter("account")],
    run: |context, matches| {
        let account = text(matches, "account").to_owned();
        let password = password::read_new(&format!("account {account}"))?;
        let request = SetAccountPasswordRequest { account, password };
        control::call(context, |mut client| async move {
            client.set_account_password(request).await
        })?;
        Ok(ExitCode::SUCCESS)
    },
};

pub const SET_ADMIN_PASSWORD: Command = Command {
    words: &["setadminpassword"],
    parameters: "",
    help: "Set a new password for the web pages of the administrator.\n\n\
           On a terminal the password is asked for, otherwise it is a line of standard input. It needs at least 8 \
           characters. Its hash is written to the file adminpasswd in the folder of the configuration, or the one that \
           admin_password_file in mox.toml names. mox need not run.",
    arguments: none,
    run: |context, _| {
        let (file, fixed) = context.load_static()?;
        let password = password::read_new("the administrator")?;
        if control::connect(context).is_ok() {
            let request = SetAdminPasswordRequest { password };
            control::call(
                context,
                |mut client| async move { client.set_admin_password(request).await },
            )?;
        } else {
            let file = mox_control::admin_password_file(&fixed, &folder_of(&file));
            mox_control::write_admin_password(&file, &password)?;
        }
        Ok(ExitCode::SUCCESS)
    },
};

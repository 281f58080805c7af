//! Every filter and every order of the commands about the queue, over a queue of several accounts and states; lists are
//! tables on a terminal, and the same text each time in a pipe.

use anyhow::{Context, Result, ensure};
use mox_integration_tests::client::{Smtp, base64, succeed};
use mox_integration_tests::{Mox, Options, PASSWORD, Shape, USER, binary, wait};
use serde_json::Value;

in_both_shapes!(filters_choose_what_they_say, lists_are_for_people_and_programs);

/// The objects of a list, which Python reads, too.
fn json(mox: &Mox, args: &[&str]) -> Result<Vec<Value>> {
    let printed = mox.command(&[args, &["-json"]].concat())?;
    let read = "import json, sys\nfor line in sys.stdin: assert isinstance(json.loads(line), dict)";
    succeed("python3", &["-c", read], &printed).with_context(|| printed.clone())?;
    printed.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

fn submit(mox: &Mox, user: &str, hold_for: u32, to: &[&str]) -> Result<()> {
    let mut smtp = Smtp::connect(mox.submission())?;
    let login = base64(&format!("\0{user}\0{PASSWORD}"));
    smtp.command(&format!("AUTH PLAIN {login}"), 235)?;
    for to in to {
        let parameter = match hold_for {
            0 => String::new(),
            seconds => format!(" HOLDFOR={seconds}"),
        };
        smtp.command("EHLO client.example", 250)?;
        smtp.command(&format!("MAIL FROM:<{user}>{parameter}"), 250)?;
        smtp.command(&format!("RCPT TO:<{to}>"), 250)?;
        smtp.command("DATA", 354)?;
        smtp.lines
            .send(format!("From: <{user}>\r\nSubject: to {to}\r\n\r\nhello\r\n.\r\n"))?;
        smtp.expect(250)?;
    }
    Ok(())
}

/// A queue of fourteen, none of which is delivered by itself: some on hold, some for later, some tried in vain.
fn filled(shape: Shape) -> Result<Mox> {
    let mut mox = Mox::prepare(shape, &Options::default())?;
    let domains = mox.config_dir().join("domains.toml");
    let text = std::fs::read_to_string(&domains)?.replacen(
        "[accounts.mox]\n",
        "[accounts.mox]\nkeep_retired_message_period = \"1h\"\n",
        1,
    );
    std::fs::write(&domains, text)?;
    mox.start_first()?;
    mox.command(&["config", "account", "add", "other", "other@localhost"])?;
    mox.command_with_input(&["setaccountpassword", "other"], &format!("{PASSWORD}\n"))?;
    mox.command(&["queue", "holdrules", "add", "-recipientdom", "held.example"])?;
    submit(&mox, USER, 0, &["a@held.example", "b@held.example", "c@held.example"])?;
    wait::until("the second account to be known", wait::DEADLINE, || {
        submit(&mox, "other@localhost", 0, &["d@held.example"]).map(Some)
    })?;
    submit(&mox, "other@localhost", 0, &["E@Held.Example"])?;
    submit(&mox, "mox+tag@localhost", 7200, &["f@later.example", "a@later.example"])?;
    submit(&mox, "other@localhost", 5400, &["g@later.example"])?;
    submit(&mox, USER, 86_400, &["h@later.example", "i@x.held.example"])?;
    submit(&mox, USER, 0, &["j451@tried.example", "k451@tried.example"])?;
    submit(&mox, "other@localhost", 0, &["l451@tried.example", "m451@held.example"])?;
    mox.command(&["queue", "transport", "-to", "@later.example", "self"])?;
    mox.command(&["queue", "requiretls", "-to", "h@later.example", "yes"])?;
    mox.command(&["queue", "hold", "-to", "f@later.example"])?;
    wait::until("three to be tried", wait::DEADLINE, || {
        let listed = json(&mox, &["queue", "list", "-to", "@tried.example"])?;
        let tried = listed.iter().filter(|entry| entry["attempts"] == 1).count();
        Ok((tried == 3).then_some(()))
    })
    .with_context(|| mox.log_tails())?;
    Ok(mox)
}

fn text<'a>(entry: &'a Value, field: &str) -> &'a str {
    entry[field].as_str().unwrap_or_default()
}

fn number(entry: &Value, field: &str) -> u64 {
    entry[field].as_u64().unwrap_or_default()
}

fn ids(listed: &[Value]) -> Vec<u64> {
    listed.iter().map(|entry| number(entry, "id")).collect()
}

/// What a filter means, by what the list of all says of an entry. `soon` is an hour from now, as lists print times.
type Means = Box<dyn Fn(&Value) -> bool>;

fn filters(all: &[Value], soon: &str) -> Vec<(Vec<String>, Means)> {
    let mut filters: Vec<(Vec<String>, Means)> = Vec::new();
    let mut add = |args: &[&str], means: Means| {
        filters.push((args.iter().map(ToString::to_string).collect(), means));
    };
    add(&[], Box::new(|_| true));
    for account in ["mox", "other", "nobody"] {
        add(&["-account", account], Box::new(move |e| text(e, "account") == account));
    }
    for from in ["mox@localhost", "OTHER@localhost", "mox+tag@localhost", "x@localhost"] {
        let wanted = from.to_lowercase();
        add(
            &["-from", from],
            Box::new(move |e| text(e, "mail_from").to_lowercase() == wanted),
        );
    }
    add(&["-from", "@LocalHost"], Box::new(|_| true));
    add(&["-from", "@held.example"], Box::new(|_| false));
    for to in ["a@held.example", "e@held.example", "E@HELD.example", "z@held.example"] {
        let wanted = to.to_lowercase();
        add(
            &["-to", to],
            Box::new(move |e| text(e, "recipient").to_lowercase() == wanted),
        );
    }
    for domain in ["@held.example", "@later.example", "@TRIED.example", "@example"] {
        let wanted = domain.to_lowercase();
        let means = move |e: &Value| text(e, "recipient").to_lowercase().ends_with(&wanted);
        add(&["-to", domain], Box::new(means));
    }
    for hold in [true, false] {
        add(&["-hold", &hold.to_string()], Box::new(move |e| e["hold"] == hold));
    }
    for transport in ["self", "", "none"] {
        add(
            &["-transport", transport],
            Box::new(move |e| text(e, "transport") == transport),
        );
    }
    let some = [number(&all[1], "id"), number(&all[5], "id"), u64::MAX];
    let list = some.map(|id| id.to_string()).join(",");
    add(&["-ids", &list], Box::new(move |e| some.contains(&number(e, "id"))));
    for (given, all) in [
        ("<now", true),
        (">now", false),
        (">-1.5h", true),
        ("<-1h30m", false),
        ("<+1h", true),
        ("< 1h", true),
        (">-24h", true),
    ] {
        add(&["-submitted", given], Box::new(move |_| all));
    }
    for (given, later) in [("<1h", false), (">1h", true), (">60m", true), ("<+1.0h", false)] {
        let soon = soon.to_owned();
        add(
            &["-nextattempt", given],
            Box::new(move |e| (text(e, "next_attempt") > soon.as_str()) == later),
        );
    }
    add(
        &["-account", "other", "-hold", "true", "-to", "@held.example"],
        Box::new(|e| {
            text(e, "account") == "other" && e["hold"] == true && text(e, "recipient").ends_with("@held.example")
        }),
    );
    filters
}

/// Only what is on hold, or is to be tried in an hour or in two days, is in the queue of the test.
fn an_hour_from_now(all: &[Value]) -> String {
    let mut times: Vec<&str> = all.iter().map(|entry| text(entry, "next_attempt")).collect();
    times.sort_unstable();
    // The ones that are for later were given at least 90 minutes; the others are due, or within minutes.
    let later = all
        .iter()
        .filter(|entry| text(entry, "recipient").ends_with("@later.example"));
    let earliest = later.map(|entry| text(entry, "next_attempt")).min().unwrap_or_default();
    times
        .into_iter()
        .rfind(|time| *time < earliest)
        .unwrap_or_default()
        .to_owned()
}

fn filters_choose_what_they_say(shape: Shape) -> Result<()> {
    let mox = filled(shape)?;
    let list = ["queue", "list"];
    let all = json(&mox, &list)?;
    ensure!(all.len() == 14, "{all:?}");
    let soon = an_hour_from_now(&all);
    let filters = filters(&all, &soon);
    let sorted = |args: &[&str], listed: &[Value], field: &str, ascending: bool| -> Result<()> {
        let mut times: Vec<&str> = listed.iter().map(|entry| text(entry, field)).collect();
        if !ascending {
            times.reverse();
        }
        ensure!(times.is_sorted(), "{args:?}: {times:?}");
        Ok(())
    };
    for (filter, means) in &filters {
        let filter: Vec<&str> = filter.iter().map(String::as_str).collect();
        let mut wanted: Vec<u64> = ids(&all.iter().filter(|e| means(e)).cloned().collect::<Vec<_>>());
        wanted.sort_unstable();
        let orders = [
            (&[][..], "next_attempt", false),
            (&["-sort", "nextattempt", "-asc"], "next_attempt", true),
            (&["-sort", "queued"], "queued", false),
            (&["-asc", "-sort", "queued"], "queued", true),
        ];
        for (order, field, ascending) in orders {
            let args = [&list[..], &filter, order].concat();
            let listed = json(&mox, &args)?;
            let mut found = ids(&listed);
            found.sort_unstable();
            ensure!(found == wanted, "{args:?}: {found:?}, not {wanted:?}");
            sorted(&args, &listed, field, ascending)?;
            if field == "queued" {
                let few = json(&mox, &[&args[..], &["-n", "2"]].concat())?;
                ensure!(
                    ids(&few) == ids(&listed)[..wanted.len().min(2)],
                    "{args:?} -n 2: {few:?}"
                );
            }
        }
        // A change that changes nothing says how many there are.
        let held = [&["queue", "schedule"][..], &filter, &["0"]].concat();
        let changed = json(&mox, &held)?;
        ensure!(
            changed == [serde_json::json!({ "changed": wanted.len() })],
            "{held:?}: {changed:?}"
        );
    }
    for (args, said) in [
        (&["queue", "list", "-sort", "size"][..], "-sort"),
        (&["queue", "list", "-hold", "maybe"], "-hold"),
        (&["queue", "list", "-submitted", "1h"], "-submitted"),
        (&["queue", "list", "-nextattempt", "<soon"], "-nextattempt"),
        (&["queue", "list", "-ids", "one"], "-ids"),
        (&["queue", "list", "-n", "-1"], "-n"),
        (&["queue", "schedule", "1 hour"], "is not a duration"),
        (&["queue", "schedule", ""], "is not a duration"),
        (&["queue", "transport", "-n", "1", "none"], "it has self"),
        (&["queue", "requiretls", "maybe"], "default"),
        (&["queue", "dump", "99999999"], "99999999"),
        (&["queue", "hold", "extra"], "extra"),
    ] {
        let done = mox.try_command(args, "")?;
        let told = String::from_utf8_lossy(&done.stderr);
        ensure!(
            !done.status.success() && told.contains(said),
            "{args:?}: {told} {:?}",
            done.stdout
        );
    }
    ensure!(json(&mox, &list)?.len() == 14);
    changes(&mox)
}

/// Each change, of what a filter chooses, and of nothing else.
fn changes(mox: &Mox) -> Result<()> {
    let count = |args: &[&str]| -> Result<usize> { Ok(json(mox, &[&["queue", "list"], args].concat())?.len()) };
    let change = |args: &[&str], expected: u64| -> Result<()> {
        let changed = json(mox, &[&["queue"], args].concat())?;
        ensure!(
            changed == [serde_json::json!({ "changed": expected })],
            "{args:?}: {changed:?}"
        );
        Ok(())
    };
    // All is put on hold first, so that nothing goes.
    change(&["hold", "-hold", "false"], 7)?;
    ensure!(count(&["-hold", "true"])? == 14);
    change(&["requiretls", "-account", "other", "yes"], 5)?;
    change(&["requiretls", "-account", "other", "-n", "2", "no"], 2)?;
    change(&["requiretls", "-from", "mox+tag@localhost", "default"], 2)?;
    let listed = json(mox, &["queue", "list"])?;
    let of = |value: Value| listed.iter().filter(|entry| entry["requiretls"] == value).count();
    ensure!(
        (of(true.into()), of(false.into()), of(Value::Null)) == (4, 2, 8),
        "{listed:?}"
    );
    change(&["schedule", "-to", "@later.example", "-now", "+1.5h"], 4)?;
    change(&["schedule", "-nextattempt", ">1h", "-account", "mox", "-7.5m"], 4)?;
    ensure!(count(&["-nextattempt", "<85m", "-to", "@later.example"])? == 3);
    ensure!(count(&["-nextattempt", ">85m", "-to", "@later.example"])? == 1);
    change(&["transport", "-transport", "self", "-account", "other", ""], 1)?;
    ensure!(count(&["-transport", "self"])? == 3);
    change(&["unhold", "-to", "@later.example"], 4)?;
    ensure!(count(&["-hold", "false"])? == 4);
    change(&["fail", "-from", "other@localhost", "-to", "@held.example"], 3)?;
    change(&["drop", "-submitted", "<now", "-hold", "true"], 7)?;
    ensure!(count(&[])? == 4);
    let retired = json(mox, &["queue", "retired", "list"])?;
    // The other account keeps none.
    ensure!(
        retired.len() == 6 && retired.iter().all(|r| r["outcome"] == "dropped"),
        "{retired:?}"
    );
    for (args, expected) in [
        (&["-account", "mox"][..], 6),
        (&["-account", "other"], 0),
        (&["-result", "failure"], 6),
        (&["-result", "success"], 0),
        (&["-from", "@localhost"], 6),
        (&["-to", "a@held.example"], 1),
        (&["-lastactivity", ">-1h", "-submitted", "<now"], 6),
        (&["-lastactivity", "<-1h"], 0),
        (&["-transport", ""], 6),
        (&["-transport", "self"], 0),
        (&["-n", "2", "-sort", "queued", "-asc"], 2),
        (&["-n", "4", "-sort", "lastactivity"], 4),
    ] {
        let found = json(mox, &[&["queue", "retired", "list"], args].concat())?;
        ensure!(found.len() == expected, "{args:?}: {found:?}");
    }
    Ok(())
}

/// Lists, and how many fields their lines have.
const LISTS: [(&[&str], usize); 6] = [
    (&["queue", "list"], 12),
    (&["queue", "holdrules", "list"], 4),
    (&["queue", "retired", "list"], 10),
    (&["queue", "suppress", "list"], 6),
    (&["queue", "webhook", "list"], 10),
    (&["queue", "webhook", "retired", "list"], 10),
];

fn lists_are_for_people_and_programs(shape: Shape) -> Result<()> {
    let mox = filled(shape)?;
    mox.command(&["queue", "hold"])?;
    mox.command(&["queue", "drop", "-account", "mox", "-to", "@tried.example"])?;
    mox.command(&["queue", "suppress", "add", "mox", "a@x.example"])?;
    mox.command(&["queue", "suppress", "add", "other", "much.longer+y@x.example"])?;
    // Who reads may have enough, or no room.
    let file = |name: &str| mox.folder().join(name).display().to_string();
    let (program, config, errors, code) = (binary("mox")?, mox.config_file(), file("errors"), file("code"));
    let list = format!(
        "{} -config {} queue list 2>{errors}",
        program.display(),
        config.display()
    );
    for (script, ended, said) in [
        (format!("(sleep 0.3; {list}; echo $? >{code}) | true"), "141", ""),
        (
            format!("{list} >/dev/full; echo $? >{code}"),
            "1",
            "writing to standard output",
        ),
    ] {
        succeed("sh", &["-c", &script], "")?;
        wait::until("the list to end", wait::DEADLINE, || {
            Ok((std::fs::read_to_string(&code)?.trim() == ended).then_some(()))
        })?;
        let told = std::fs::read_to_string(&errors)?;
        ensure!(
            told.contains(said) && !told.contains("panicked") && (told.is_empty() == said.is_empty()),
            "{script}: {told}"
        );
    }
    for (list, fields) in LISTS {
        let plain = mox.command(list)?;
        ensure!(
            plain.lines().all(|line| line.split('\t').count() == fields) && plain.lines().count() >= 1,
            "{list:?}: {plain}"
        );
        ensure!(mox.command(list)? == plain, "{list:?}: another text the second time");
        ensure!(
            json(&mox, list)?.len() == plain.lines().count() - 1,
            "{list:?}: {plain}"
        );
        // On a terminal, each field is under its title.
        let (program, config) = (binary("mox")?, mox.config_file());
        let command = format!("{} -config {} {}", program.display(), config.display(), list.join(" "));
        let shown = succeed("script", &["-qec", &command, "/dev/null"], "")?.replace('\r', "");
        ensure!(
            !shown.contains('\t') && shown.lines().count() == plain.lines().count(),
            "{list:?}: {shown}"
        );
        let rows: Vec<Vec<&str>> = plain.lines().map(|line| line.split('\t').collect()).collect();
        let mut start = 0;
        for column in 0..fields {
            for (row, line) in rows.iter().zip(shown.lines()) {
                let rest: String = line.chars().skip(start).collect();
                ensure!(rest.starts_with(row[column]), "{list:?}: {:?} in\n{shown}", row[column]);
            }
            let widths = rows.iter().map(|row| row[column].chars().count());
            start += widths.max().unwrap_or(0) + 2;
        }
    }
    Ok(())
}

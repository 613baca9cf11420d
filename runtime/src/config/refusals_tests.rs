//! Wrong configurations, one mistake each: the place, the words and the remedy of its answer.

use super::*;

/// What a wrong text is, and the problem that it is answered with. What is missing altogether has line 0.
struct Wrong {
    text: &'static str,
    line: usize,
    column: usize,
    message: &'static str,
    remedy: &'static str,
}

const fn wrong(
    text: &'static str,
    line: usize,
    column: usize,
    message: &'static str,
    remedy: &'static str,
) -> Wrong {
    Wrong { text, line, column, message, remedy }
}

/// A valid cluster, for texts about something else. It is the text's first lines.
const CLUSTER: &str = "version = 1\n[[clusters]]\nname = \"c1\"\nservers = [\"a:1\"]\n";

#[test]
fn every_wrong_configuration_is_answered_with_place_words_and_remedy() {
    let mut shown = String::new();
    let mut count = 0;
    for Wrong { text, line, column, message, remedy } in WRONG {
        // What begins with a section stands after the cluster; anything else is a whole file.
        let whole = if text.starts_with('[') { format!("{CLUSTER}{text}") } else { (*text).to_owned() };
        let error = whole.parse::<Config>().expect_err(text);
        let [problem] = error.problems() else { panic!("{text}\n{error}") };
        let place = problem.place.map_or((0, 0), |place| (place.line, place.column));
        // Which keys there are is not the point.
        let words = match problem.message.split_once(", expected ") {
            Some((words, _)) if words.starts_with("unknown field") => words,
            _ => &problem.message,
        };
        let found = (place, words, problem.remedy.as_deref().unwrap_or_default());
        if found != ((*line, *column), message, remedy) {
            let (line, column) = place;
            shown
                .push_str(&format!("    wrong({text:?}, {line}, {column}, {:?}, {:?}),\n", found.1, found.2));
        }
        count += 1;
    }
    assert!(shown.is_empty(), "these are answered otherwise:\n{shown}");
    assert!(count >= 40, "{count}");
}

#[test]
fn all_mistakes_of_one_file_are_told_at_once_from_top_to_bottom() {
    for (text, places) in [
        (
            "version = 1\n[node]\nname = 5\nnmae = \"n1\"\n[shards]\ncpus = \"1\"\npin = \"yes\"\ninbox = 0\n\
             [[clusters]]\nname = \"c1\"\nservers = [\"a:1\", 4222, \"a:0\"]\nweight = 0\n\
             [[clusters]]\nname = \"c1\"\nservers = \"b:1\"\n[limits]\nrequest_timeout = 7\n\
             subscriber_queue = { messages = \"many\", bytes = \"1 parsec\", depth = 1 }\n\
             [registry]\nbind = \"0.0.0.0:7946\"\nsecret_file = \"secret\"\nheartbeat = \"1ms\"\n[lgo]\nlevel = \"info\"\n",
            &[
                (3, 8),
                (4, 1),
                (7, 7),
                (8, 9),
                (11, 19),
                (11, 25),
                (12, 10),
                (14, 8),
                (15, 11),
                (17, 19),
                (18, 33),
                (18, 49),
                (18, 61),
                (20, 8),
                (21, 1),
                (22, 13),
                (23, 2),
            ][..],
        ),
        // What is left out leaves a gap, which is no mistake of its own.
        ("version = 1\n[[cluster]]\nservers = [\"a:1\"]\n", &[(2, 3)]),
        ("version = 1\nclusters = [4, 5]\n", &[(2, 13), (2, 16)]),
        ("version = 1\nclusters = 4\n[nod]\n", &[(2, 12), (3, 2)]),
    ] {
        let error = text.parse::<Config>().expect_err(text);
        let place = |problem: &Problem| problem.place.map_or((0, 0), |place| (place.line, place.column));
        let found: Vec<_> = error.problems().iter().map(place).collect();
        assert_eq!(found, places, "{error}");
        assert!(!text.contains("4222") || error.to_string().contains("clusters[0].servers[2]: "), "{error}");
    }
}

#[test]
fn what_is_no_toml_or_of_another_version_is_told_alone() {
    for text in ["version = 1\n[node\nnmae = 5\n", "version = 2\n[nod]\n", "[nod]\n"] {
        let error = text.parse::<Config>().expect_err(text);
        assert!(matches!(error, ConfigError::Form { .. }), "{error}");
        assert_eq!(error.problems().len(), 1, "{error}");
    }
}

#[test]
fn many_mistakes_have_an_end() {
    let many: String = (0..1_000).map(|number| format!("x{number} = 1\n")).collect();
    let error = format!("version = 1\n{many}").parse::<Config>().expect_err("a thousand mistakes");
    assert_eq!(error.problems().len(), 64, "{error}");
}

const WRONG: &[Wrong] = &[
    wrong("", 1, 1, "is missing", "write `version = 1` before the first section"),
    wrong("version = 2\n", 1, 11, "is not known", "this program reads `version = 1` only"),
    wrong("version = \"1\"\n", 1, 11, "is not known", "this program reads `version = 1` only"),
    wrong(
        "version = 1\n",
        0,
        0,
        "there is none",
        "add [[clusters]] with servers = [\"nats://127.0.0.1:4222\"]",
    ),
    wrong("version = 1\nversion = 1\n", 2, 1, "duplicate key", ""),
    wrong(
        "version = 1\nclusters = []\n",
        2,
        12,
        "there is none",
        "add [[clusters]] with servers = [\"nats://127.0.0.1:4222\"]",
    ),
    wrong(
        "version = 1\n[[clusters]]\nservers = []\n",
        3,
        11,
        "there is none",
        "write servers = [\"nats://127.0.0.1:4222\"] with at least one",
    ),
    wrong(
        "version = 1\n[[clusters]]\n",
        2,
        1,
        "there is none",
        "write servers = [\"nats://127.0.0.1:4222\"] with at least one",
    ),
    wrong(
        "version = 1\n[[clusters]]\nservers = \"a:1\"\n",
        3,
        11,
        "invalid type: string \"a:1\", expected a sequence",
        "",
    ),
    wrong(
        "version = 1\n[[clusters]]\nservers = [4222]\n",
        3,
        12,
        "invalid type: integer `4222`, expected a string",
        "",
    ),
    wrong(
        "version = 1\n[[clusters]]\nservers = [\"a:0\"]\n",
        3,
        12,
        "`0` is no port: write a number from 1 to 65535",
        "",
    ),
    wrong(
        "version = 1\n[[clusters]]\nservers = [\"a:1/x\"]\n",
        3,
        12,
        "`a:1/x` goes on after host and port: write nats://host:port, one address an entry",
        "",
    ),
    wrong(
        "version = 1\n[[clusters]]\nservers = [\"::1\"]\n",
        3,
        12,
        "`::1` looks like an IPv6 address: put it into brackets, as in nats://[::1]:4222",
        "",
    ),
    wrong("version = 1\n[[clusters]]\nservers = [\"a b\"]\n", 3, 12, "`a b` is no host name or address", ""),
    wrong(
        "version = 1\n[[clusters]]\nservers = [\"\"]\n",
        3,
        12,
        "the server address is empty: write nats://host:port",
        "",
    ),
    wrong(
        "version = 1\n[[clusters]]\nname = \"\"\nservers = [\"a:1\"]\n",
        3,
        8,
        "is empty",
        "give it a name",
    ),
    wrong(
        "version = 1\n[[clusters]]\nname = \"c 1\"\nservers = [\"a:1\"]\n",
        3,
        8,
        "\"c 1\" has blanks or characters that cannot be printed",
        "use letters, digits, `-`, `_` and `.`",
    ),
    wrong(
        "version = 1\n[[clusters]]\nnmae = \"c1\"\nservers = [\"a:1\"]\n",
        3,
        1,
        "unknown field `nmae`",
        "did you mean `name`?",
    ),
    wrong("version = 1\n[clusters]\nname = \"c1\"\n", 2, 1, "invalid type: map, expected a sequence", ""),
    wrong(
        "[[clusters]]\nname = \"c1\"\nservers = [\"b:1\"]\n",
        6,
        8,
        "\"c1\" is also the name of clusters[0]",
        "each cluster needs a name of its own",
    ),
    wrong(
        "[[clusters]]\nname = \"c2\"\nservers = [\"a:1\"]\n",
        7,
        12,
        "a:1 is also a server of clusters[0]",
        "two clusters are two sets of servers without routes between them",
    ),
    wrong(
        "[[clusters]]\nname = \"c2\"\nservers = [\"b:1\"]\nweight = 0\n",
        8,
        10,
        "is 0, outside 0.0625 to 16",
        "to give a cluster no topics, remove it; 1 is the usual weight",
    ),
    wrong(
        "[[clusters]]\nname = \"c2\"\nservers = [\"b:1\"]\nweight = \"2\"\n",
        8,
        10,
        "invalid type: string \"2\", expected f64",
        "",
    ),
    wrong("[node]\nname = \"\"\n", 6, 8, "is empty", "give it a name"),
    wrong("[node]\nname = 7\n", 6, 8, "invalid type: integer `7`, expected a string", ""),
    wrong("[shards]\ncpus = 0\n", 6, 8, "is 0: a node has at least one shard", "use \"auto\""),
    wrong("[shards]\ncpus = \"5-2\"\n", 6, 8, "the range 5-2 runs backwards: write 2-5", ""),
    wrong("[shards]\ncpus = \"0,0\"\n", 6, 8, "names twice: 0", "name each CPU once"),
    wrong(
        "[shards]\nspin = \"2s\"\n",
        6,
        8,
        "is 2s, longer than 1s",
        "50us to 100us shorten the tail; more only burns a core",
    ),
    wrong("[shards]\ninbox = 0\n", 6, 9, "is 0", "use at least 1 message"),
    wrong("[shards]\npin = \"yes\"\n", 6, 7, "invalid type: string \"yes\", expected a boolean", ""),
    wrong(
        "[ring]\nmode = \"croupiere\"\n",
        6,
        8,
        "unknown variant `croupiere`, expected `croupier` or `roulette`",
        "did you mean `croupier`?",
    ),
    wrong(
        "[ring]\nmode = \"roulette\"\nseed = 7\n",
        7,
        8,
        "is 7, but the roulette ring has no seed",
        "remove it, or use mode = \"croupier\"",
    ),
    wrong("[ring]\nseed = -1\n", 6, 8, "invalid value: integer `-1`, expected u64", ""),
    wrong("[conection]\n", 5, 2, "unknown field `conection`", "did you mean `connection`?"),
    wrong(
        "[connection]\nrole = \"subscribers\"\n",
        6,
        8,
        "unknown variant `subscribers`, expected one of `both`, `publisher`, `subscriber`",
        "did you mean `subscriber`?",
    ),
    wrong(
        "[connection]\nconnect_timeout = 2\n",
        6,
        19,
        "invalid type: integer `2`, expected a duration such as \"50us\", \"100ms\", \"2s\" or \"20m\"",
        "",
    ),
    wrong(
        "[connection]\nconnect_timeout = \"2 sec\"\n",
        6,
        19,
        "`sec` is no unit of a duration: use ns, us, ms, s, m, h",
        "",
    ),
    wrong("[connection]\nping_interval = \"0s\"\n", 6, 17, "is 0", "use a time above 0, such as \"2s\""),
    wrong("[connection]\nmax_pings_out = 101\n", 6, 17, "is 101", "use at most 100 PINGs"),
    wrong(
        "[connection]\nuser_timeout = \"1500us\"\n",
        6,
        16,
        "is 1.5ms, but the kernel counts it in milliseconds",
        "use whole milliseconds",
    ),
    wrong("[connection]\ncatch_up = \"1001ms\"\n", 6, 12, "is 1.001s, longer than 1s", "use at most \"1s\""),
    wrong(
        "[connection]\nreconnect = { base = \"6s\" }\n",
        6,
        22,
        "is 6s, longer than max, which is 5s",
        "base is the first pause, max the longest",
    ),
    wrong(
        "[connection]\nreconnect = \"10ms\"\n",
        6,
        13,
        "invalid type: string \"10ms\", expected a table such as { base = \"10ms\", max = \"5s\" }",
        "",
    ),
    wrong(
        "[limits]\npublish_buffer = \"8MB\"\n",
        6,
        18,
        "`MB` is no unit of a size: use B, KiB, MiB, GiB, TiB",
        "",
    ),
    wrong("[limits]\npublish_buffer = 0\n", 6, 18, "is 0", "use at least 1 byte"),
    wrong("[limits]\nmax_payload = \"65MiB\"\n", 6, 15, "is 68157440", "use at most 67108864 bytes"),
    wrong(
        "[limits]\nsubscriber_queue = { messges = 5 }\n",
        6,
        22,
        "unknown field `messges`",
        "did you mean `messages`?",
    ),
    wrong(
        "[limits]\non_slow_subscriber = \"drop_latest\"\n",
        6,
        22,
        "unknown variant `drop_latest`, expected one of `drop_newest`, `drop_oldest`, `close`",
        "did you mean `drop_newest`?",
    ),
    wrong(
        "[limits]\nrequest_timeout = \"25h\"\n",
        6,
        19,
        "is 90000s, longer than 86400s",
        "use a shorter time, such as \"2s\"",
    ),
    wrong(
        "[registry]\ncluster = \"prod\"\n",
        0,
        0,
        "is missing, and the nodes of a registry know each other by their names",
        "write name = \"n1\" under [node], unique in the registry",
    ),
    wrong("[node]\nname = \"n1\"\n[registry]\nbind = \"127.0.0.1:1\"\n", 7, 1, "is empty", "give it a name"),
    wrong(
        "[node]\nname = \"n1\"\n[registry]\ncluster = \"prod\"\nbind = \"localhost:1\"\n",
        9,
        8,
        "`localhost:1` is no address",
        "write ip:port, such as \"127.0.0.1:7946\" or \"[::1]:7946\"",
    ),
    wrong(
        "[node]\nname = \"n1\"\n[registry]\ncluster = \"prod\"\nbind = \"198.18.0.1:1\"\n",
        9,
        8,
        "is 198.18.0.1:1, which is not on loopback, and there is no secret",
        "set secret_files = [\"/run/secrets/registry\"], the same secret on every node; or insecure = true, if nobody else can reach the port",
    ),
    wrong(
        "[node]\nname = \"n1\"\n[registry]\ncluster = \"prod\"\nbind = \"0.0.0.0:1\"\nsecret_files = [\"x\"]\n",
        7,
        1,
        "is missing, and no other node can dial 0.0.0.0, which is bind",
        "write the address at which the other nodes reach this one",
    ),
    wrong(
        "[node]\nname = \"n1\"\n[registry]\ncluster = \"prod\"\nseeds = [\"n2\"]\n",
        9,
        10,
        "`n2` has no port: write host:port",
        "",
    ),
    wrong(
        "[node]\nname = \"n1\"\n[registry]\ncluster = \"prod\"\nheartbeat = \"1ms\"\n",
        9,
        13,
        "is 1ms",
        "use at least 10ms",
    ),
    wrong(
        "[node]\nname = \"n1\"\n[registry]\ncluster = \"prod\"\nsuspect_after = \"500ms\"\n",
        9,
        17,
        "is 500ms, shorter than 4 heartbeats",
        "use at least 1s",
    ),
    wrong(
        "[node]\nname = \"n1\"\n[registry]\ncluster = \"prod\"\nforget_after = \"1s\"\n",
        9,
        16,
        "is 1s, not longer than suspect_after, which is 1s",
        "20m is usual; it costs only memory",
    ),
    wrong(
        "[node]\nname = \"n1\"\n[registry]\ncluster = \"prod\"\nsecret = \"canary\"\n",
        9,
        1,
        "unknown field `secret`",
        "secrets are read from files: `secret_files = [\"/run/secrets/registry\"]`",
    ),
    wrong("[node\nname = \"n1\"\n", 5, 6, "unclosed table, expected `]`", ""),
    wrong("[node]\nname = \n", 6, 8, "string values must be quoted, expected literal string", ""),
    wrong("[node]\nname = \"n1\n", 6, 11, "invalid basic string, expected `\"`", ""),
];

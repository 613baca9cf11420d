//! Local clusters of real servers: what is started, broken, started again, and that nothing is left.

use std::{
    collections::BTreeSet,
    env, fs,
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    os::unix::fs::PermissionsExt,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use super::*;

#[test]
fn clusters_answer_on_ports_of_their_own_and_are_gone_when_dropped() {
    let mut first = LocalCluster::start(2).unwrap();
    let mut second = LocalCluster::start(1).unwrap();
    assert_eq!((first.clusters(), second.clusters()), (2, 1));
    let urls = [first.servers(0), first.servers(1), second.servers(0)].concat();
    let urls: BTreeSet<String> = urls.into_iter().collect();
    assert_eq!(urls.len(), 3, "{urls:?}");
    for url in &urls {
        assert!(greeting(url).contains(first.server_version()));
    }
    let configs = first.cluster_configs();
    assert_eq!(configs[1], ClusterConfig::new("c2", first.servers(1)));

    let pids = [pid(&mut first, 0, 0), pid(&mut first, 1, 0), pid(&mut second, 0, 0)];
    let folder = first.log_path(0, 0).parent().unwrap().to_owned();
    assert!(fs::read_to_string(first.log_path(1, 0)).unwrap().contains("Server is ready"));
    assert!(pids.into_iter().all(is_alive));
    drop(first);
    assert_eq!(pids.map(is_alive), [false, false, true]);
    assert!(!folder.exists());
    drop(second);
    assert!(!is_alive(pids[2]));
}

#[test]
fn routes_go_where_they_are_led_and_clients_are_told_of_no_other_server() {
    let mut asked = Vec::new();
    let local = LocalCluster::with_routes(2, 3, |route| {
        asked.push((route.cluster, route.from, route.to));
        Ok(route.address)
    });
    let local = local.unwrap();
    for url in local.servers(1) {
        assert!(!greeting(&url).contains("connect_urls"), "{url}");
    }
    assert_eq!(asked, [(0, 1, 0), (0, 2, 0), (0, 2, 1), (1, 1, 0), (1, 2, 0), (1, 2, 1)]);
    let error = LocalCluster::with_routes(1, 2, |_| Err(io::ErrorKind::AddrInUse.into())).unwrap_err();
    assert!(matches!(error, LocalClusterError::System { .. }), "{error}");
}

#[test]
fn a_killed_server_refuses_and_comes_back_on_its_port() {
    let mut local = LocalCluster::start(2).unwrap();
    let urls = local.servers(0);
    // Connections that outlive the server leave its port in TIME_WAIT and the like.
    let clients: Vec<TcpStream> = (0..20).map(|_| connect(&urls[0])).collect();
    for _ in 0..3 {
        let killed = pid(&mut local, 0, 0);
        local.kill(0, 0).unwrap();
        assert!(!is_alive(killed));
        assert_eq!(local.pid(0, 0).unwrap(), None);
        let refused = TcpStream::connect(address(&urls[0])).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        assert!(matches!(local.kill(0, 0), Err(LocalClusterError::NotRunning { cluster: 0, node: 0 })));
        assert!(matches!(local.pause(0, 0), Err(LocalClusterError::NotRunning { .. })));

        local.restart(0, 0).unwrap();
        assert_eq!(local.servers(0), urls);
        assert_ne!(pid(&mut local, 0, 0), killed);
        greeting(&urls[0]);
        assert!(matches!(local.restart(0, 0), Err(LocalClusterError::Running { cluster: 0, node: 0 })));
    }
    let error = LocalClusterError::NotRunning { cluster: 1, node: 2 };
    assert_eq!(error.to_string(), "c2/3 is not running");
    assert!(matches!(local.kill(0, 1), Err(LocalClusterError::NoSuchServer { cluster: 0, node: 1 })));
    assert!(matches!(local.restart(2, 0), Err(LocalClusterError::NoSuchServer { cluster: 2, node: 0 })));
    drop(clients);
}

#[test]
fn a_paused_server_is_silent_until_it_goes_on() {
    let mut local = LocalCluster::start(1).unwrap();
    let url = local.servers(0).remove(0);
    let mut client = connect(&url);
    client.write_all(b"CONNECT {\"verbose\":false}\r\nPING\r\n").unwrap();
    assert!(hears(&client, "PONG"));

    local.pause(0, 0).unwrap();
    client.write_all(b"PING\r\n").unwrap();
    client.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    assert!(!hears(&client, "PONG"));
    local.resume(0, 0).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    assert!(hears(&client, "PONG"));
    local.resume(0, 0).unwrap();

    local.pause(0, 0).unwrap();
    let paused = pid(&mut local, 0, 0);
    local.kill(0, 0).unwrap();
    assert!(!is_alive(paused));
    local.restart(0, 0).unwrap();
    greeting(&url);

    local.pause(0, 0).unwrap();
    let paused = pid(&mut local, 0, 0);
    drop(local);
    assert!(!is_alive(paused));
}

#[test]
fn servers_of_one_cluster_hear_each_other_also_after_a_restart() {
    let mut local = LocalCluster::with_nodes(2, 2).unwrap();
    assert_eq!(local.servers(1).len(), 2);
    for (cluster, killed) in [(0, 0), (0, 1), (1, 1)] {
        local.kill(cluster, killed).unwrap();
        local.restart(cluster, killed).unwrap();
        let [from, to] = [0, 1].map(|node| connect(&local.servers(cluster)[node]));
        for (mut publisher, mut subscriber) in [(&from, &to), (&to, &from)] {
            let connect = "CONNECT {\"verbose\":false}\r\n";
            subscriber.write_all(format!("{connect}SUB over.there 7\r\nPING\r\n").as_bytes()).unwrap();
            assert!(hears(subscriber, "PONG"));
            // The interest travels to the other server in its own time; the routes are up.
            let mut heard = false;
            for _ in 0..100 {
                publisher
                    .write_all(format!("{connect}PUB over.there 2\r\nhi\r\nPING\r\n").as_bytes())
                    .unwrap();
                assert!(hears(publisher, "PONG"));
                subscriber.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
                heard = hears(subscriber, "MSG over.there 7 2");
                if heard {
                    break;
                }
            }
            assert!(heard, "cluster {cluster}, {killed} restarted");
            subscriber.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
            subscriber.write_all(b"UNSUB 7\r\n").unwrap();
        }
    }
    // The other cluster's server does not tell of these.
    let others = greeting(&local.servers(1)[0]);
    assert!(!others.contains(&address(&local.servers(0)[0]).to_string()), "{others}");
}

#[test]
fn a_restart_beside_a_dead_and_a_paused_server_waits_for_neither() {
    let mut local = LocalCluster::with_nodes(1, 3).unwrap();
    local.kill(0, 0).unwrap();
    local.kill(0, 1).unwrap();
    local.pause(0, 2).unwrap();
    local.restart(0, 0).unwrap();
    local.resume(0, 2).unwrap();
    local.restart(0, 1).unwrap();
    for url in local.servers(0) {
        greeting(&url);
    }
}

#[test]
fn a_lame_duck_tells_its_clients() {
    let mut local = LocalCluster::start(1).unwrap();
    let mut client = connect(&local.servers(0)[0]);
    // Protocol 1 is what asks for INFO after the first one.
    client.write_all(b"CONNECT {\"verbose\":false,\"protocol\":1}\r\nPING\r\n").unwrap();
    assert!(hears(&client, "PONG"));
    local.lame_duck(0, 0).unwrap();
    assert!(hears(&client, "\"ldm\":true"));
}

#[test]
fn servers_outlive_the_thread_that_started_them() {
    let mut local = thread::spawn(|| LocalCluster::start(1).unwrap()).join().unwrap();
    // The signal would come at the end of the thread, so it has come if it comes at all.
    greeting(&local.servers(0)[0]);
    assert!(is_alive(pid(&mut local, 0, 0)));
}

#[test]
fn an_interrupt_from_the_terminal_does_not_reach_the_servers() {
    let mut local = LocalCluster::start(1).unwrap();
    let server = pid(&mut local, 0, 0);
    let status = fs::read_to_string(format!("/proc/{server}/stat")).unwrap();
    // After the name in parentheses: state, parent, group.
    let group = status.rsplit_once(')').unwrap().1.split_whitespace().nth(2).unwrap();
    assert_eq!(group, server.to_string(), "it is in a group of its own");
}

#[test]
fn servers_end_with_their_process_when_it_is_killed() {
    let mut parent = Command::new(env::current_exe().unwrap())
        .args(["--exact", "--ignored", "--nocapture", "--test-threads=1"])
        .arg(format!("{}::is_killed_with_its_servers", module_path!().split_once("::").unwrap().1))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(parent.stdout.take().unwrap()).lines();
    let told = lines.find_map(|line| line.unwrap().split_once("servers: ").map(|(_, told)| told.to_owned()));
    let told = told.expect("the other process names its servers");
    let (folder, pids) = told.split_once(' ').unwrap();
    let pids: Vec<u32> = pids.split(' ').map(|pid| pid.parse().unwrap()).collect();
    assert_eq!(pids.len(), 3);
    assert!(pids.iter().all(|pid| is_alive(*pid)));

    parent.kill().unwrap();
    parent.wait().unwrap();
    // The kernel sends the signal at once; only the processes' ends take a moment.
    for _ in 0..3000 {
        if !pids.iter().any(|pid| is_alive(*pid)) {
            break;
        }
        thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(pids.iter().filter(|pid| is_alive(**pid)).count(), 0);
    fs::remove_dir_all(folder).unwrap();
}

/// One of its servers is paused, and one has started again: SIGKILL reaches those too.
#[test]
#[ignore = "a process of its own that another test starts and kills"]
fn is_killed_with_its_servers() {
    let mut local = thread::spawn(|| LocalCluster::start(3).unwrap()).join().unwrap();
    local.pause(1, 0).unwrap();
    local.kill(2, 0).unwrap();
    local.restart(2, 0).unwrap();
    let pids: Vec<String> = (0..3).map(|cluster| pid(&mut local, cluster, 0).to_string()).collect();
    println!("servers: {} {}", local.log_path(0, 0).parent().unwrap().display(), pids.join(" "));
    thread::sleep(Duration::from_secs(60));
    panic!("nobody killed this process");
}

#[test]
fn logs_stay_when_asked_for() {
    let mut local = LocalCluster::start(1).unwrap();
    let folder = local.keep_logs().to_owned();
    let log = local.log_path(0, 0).to_owned();
    drop(local);
    assert_eq!(log.file_name().unwrap(), "c1-1.log");
    assert!(fs::read_to_string(&log).unwrap().contains("Server is ready"));
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn logs_are_copied_when_the_servers_have_ended() {
    let to = Folder::new("croupier-logs").unwrap();
    let mut local = LocalCluster::start(1).unwrap();
    let log = local.log_path(0, 0).to_owned();
    local.copy_logs_to(to.path());
    drop(local);
    let copy = fs::read_to_string(to.path().join(log.file_name().unwrap())).unwrap();
    assert!(copy.contains("Server is ready"), "{copy}");
    assert!(!log.exists());
}

#[test]
fn a_server_that_ends_is_reported_with_its_last_words() {
    let folder = Folder::new("croupier-broken").unwrap();
    let binary = folder.path().join("nats-server");
    fs::write(&binary, "#!/bin/sh\necho \"no room at $2\" >&2\nexit 3\n").unwrap();
    fs::set_permissions(&binary, fs::Permissions::from_mode(0o755)).unwrap();
    let error = LocalCluster::of_binary(&binary, 1, 1).unwrap_err();
    let shown = error.to_string();
    assert!(shown.starts_with("c1/1 has ended with exit status: 3"), "{shown}");
    assert!(shown.contains("no room at --port="), "{shown}");

    let error = LocalCluster::of_binary(&folder.path().join("missing"), 1, 1).unwrap_err();
    assert!(matches!(error, LocalClusterError::System { .. }), "{error}");
}

#[test]
fn ports_that_are_asked_for_are_had_or_named() {
    // Beyond the range from which the system gives ports to others, and not where anybody else begins.
    let first = 20_000 + u16::try_from(std::process::id() % 5_000).unwrap() * 2;
    let mut local = LocalCluster::with_ports(2, 1, first).unwrap();
    for index in 0..2 {
        let port = first + u16::try_from(index).unwrap();
        assert_eq!(local.servers(index), [format!("nats://127.0.0.1:{port}")]);
        assert!(local.pid(index, 0).unwrap().is_some());
    }
    let error = LocalCluster::with_ports(1, 1, first + 1).unwrap_err();
    assert!(matches!(error, LocalClusterError::Port { cluster: 0, node: 0, .. }), "{error}");
    let told = format!("port {} of 127.0.0.1, for c1/1, cannot be had", first + 1);
    assert!(error.to_string().starts_with(&told), "{error}");
    for (clusters, first) in [(1, 0), (2, u16::MAX)] {
        let error = LocalCluster::with_ports(clusters, 1, first).unwrap_err();
        assert!(matches!(error, LocalClusterError::NoSuchPorts { .. }), "{error}");
    }
}

#[test]
fn sizes_have_their_limits() {
    for (clusters, nodes_each) in [(0, 1), (1, 0), (CLUSTERS_MAX + 1, 1), (1, NODES_MAX + 1)] {
        let error = LocalCluster::with_nodes(clusters, nodes_each).unwrap_err();
        assert!(matches!(error, LocalClusterError::Size { .. }), "{error}");
    }
}

fn pid(local: &mut LocalCluster, cluster: usize, node: usize) -> u32 {
    local.pid(cluster, node).unwrap().expect("it runs")
}

/// Not merely an entry that its parent has not collected.
fn is_alive(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    status.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

fn address(url: &str) -> SocketAddr {
    url.strip_prefix("nats://").unwrap().parse().unwrap()
}

fn connect(url: &str) -> TcpStream {
    let stream = TcpStream::connect(address(url)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

fn greeting(url: &str) -> String {
    let mut line = String::new();
    BufReader::new(connect(url)).read_line(&mut line).unwrap();
    assert!(line.starts_with("INFO {"), "{line}");
    line
}

/// Reads lines until one has this part; false when none comes in time.
fn hears(stream: &TcpStream, part: &str) -> bool {
    let mut lines = BufReader::with_capacity(1, stream).lines();
    lines
        .find_map(|line| line.map_or(Some(false), |line| line.contains(part).then_some(true)))
        .unwrap_or(false)
}

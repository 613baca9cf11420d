//! Nodes that are cut off from each other, and come together again.

use std::{collections::BTreeSet, time::Duration};

use croupier::RegistryConfig;

use super::{
    documented::{add, owners, watch},
    gate::Gate,
};
use crate::{
    registry_rig::{REGISTRY, RegistryRig, SECRET, sees, until_counted},
    rig::guarded,
    support::wait_for,
};

/// Two nodes that reach each other through gates alone.
fn gated() -> (RegistryRig, [Gate; 2]) {
    let gates = [Gate::new(), Gate::new()];
    let addresses = [gates[0].address(), gates[1].address()];
    let rig = RegistryRig::unjoined(1, &[1, 1], |index, builder| {
        let registry = RegistryConfig::new(REGISTRY).bind("127.0.0.1:0").secret(SECRET);
        let registry = registry.advertise(addresses[index]).seed(addresses[1 - index]);
        builder.registry(registry)
    });
    for (gate, node) in gates.iter().zip(rig.running()) {
        gate.lead_to(node.registry_addr().unwrap());
    }
    rig.until_complete();
    (rig, gates)
}

#[test]
fn what_was_removed_during_a_split_never_reappears_when_it_heals() {
    let (rig, gates) = gated();
    guarded(async {
        let (a, b) = (rig.node(0), rig.node(1));
        let mut offers = add(a, 0, "uploader", &["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]).await;
        let _others = add(b, 0, "uploader", &["b"]).await;
        for node in [a, b] {
            until_counted(node, "uploader", 11, 11).await;
        }
        for round in 0..3 {
            let mut events = watch(b, 0, "uploader").await;
            for gate in &gates {
                gate.shut();
            }
            until_counted(a, "uploader", 10, 10).await;
            until_counted(b, "uploader", 1, 1).await;
            assert_eq!(owners(b, 0, "uploader", 1).await, ["b/b"]);

            // Half of them go, others come, and one of those that stay changes.
            let gone: BTreeSet<String> = offers
                .drain(..5)
                .map(|offer| format!("a/{}", String::from_utf8_lossy(offer.service().id())))
                .collect();
            until_counted(a, "uploader", 5, 5).await;
            let new: Vec<String> = (0..5).map(|number| format!("{round}.{number}")).collect();
            offers.extend(add(a, 0, "uploader", &new.iter().map(String::as_str).collect::<Vec<_>>()).await);
            offers[0].with(async |me| me.disable().await).await.unwrap();
            until_counted(a, "uploader", 10, 9).await;

            for gate in &gates {
                gate.open();
            }
            for node in [a, b] {
                wait_for("the split to heal", || sees(node.handle(), 2).then_some(()));
                until_counted(node, "uploader", 11, 10).await;
            }
            // Time for whatever might still come.
            tokio::time::sleep(Duration::from_millis(300)).await;
            let seen = std::iter::from_fn(|| events.try_recv().ok()).collect::<Vec<_>>();
            let synced = seen.iter().position(|event| event == "synced").unwrap();
            let (before, after) = (&seen[..synced], &seen[synced + 1..]);
            assert_eq!(before.len(), 11, "{seen:?}");
            let of = |verb: &str| {
                let named = after.iter().filter_map(|event| event.strip_prefix(verb));
                named.map(str::to_owned).collect::<Vec<_>>()
            };
            let stayed_or_new: BTreeSet<String> = offers
                .iter()
                .map(|offer| format!("a/{}", String::from_utf8_lossy(offer.service().id())))
                .collect();
            assert_eq!(of("left ").len(), 10, "all of them left when the split was noticed: {seen:?}");
            let joined = of("joined ");
            assert_eq!(joined.len(), 10, "{seen:?}");
            assert_eq!(joined.iter().cloned().collect::<BTreeSet<_>>(), stayed_or_new);
            assert!(joined.iter().all(|joined| !gone.contains(joined)), "{gone:?} in {seen:?}");
            // That a node is suspected is news as well, but only before its services leave.
            let first_left = after.iter().position(|event| event.starts_with("left ")).unwrap();
            assert_eq!(after.len() - first_left, 20, "nothing flickers: {seen:?}");
            offers[0].with(async |me| me.enable().await).await.unwrap();
            for node in [a, b] {
                until_counted(node, "uploader", 11, 11).await;
            }
        }
        assert_eq!(owners(a, 0, "uploader", 5000).await, owners(b, 0, "uploader", 5000).await);
    });
}

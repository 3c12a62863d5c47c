//! The creation of a GatewayQueue: its children are created without reading them first.

use super::*;

/// An operator that has observed the creation of its GatewayQueue.
fn new() -> Operator {
    let operator = Operator::new(json!({}));
    operator.born();
    operator
}

impl Operator {
    /// The same after a restart, which has observed the creation of the GatewayQueue and has these
    /// children left.
    fn born_with(&self, is_left: impl Fn(&str) -> bool) -> Self {
        let mut operator = self.restarted();
        operator.api().objects.retain(|path, _| is_left(path));
        operator.queue.status = None;
        operator.born();
        operator
    }
}

/// The paths of all objects, except the status.
fn children(operator: &Operator) -> Vec<String> {
    let mut api = operator.api();
    let mut paths: Vec<_> = api.children().map(|(path, _)| path.clone()).collect();
    paths.sort();
    paths
}

#[tokio::test]
async fn a_new_queue_costs_a_request_for_each_child_one_for_its_status_and_an_event() {
    let mut operator = new();
    operator.reconcile().await.unwrap();
    let calls = operator.take_calls();
    assert_eq!(calls.len(), 6 + 1, "{calls:?}");
    let is_read = |(method, _): &(Method, String)| *method == Method::GET;
    assert!(!calls.iter().any(is_read), "{calls:?}");
    assert_eq!(operator.take_events(), ["RolloutInProgress"]);

    // Before and after the watches have returned everything.
    operator.reconcile().await.unwrap();
    assert_eq!(operator.take_calls(), []);
    operator.observe();
    operator.reconcile().await.unwrap();
    let writes = operator.take_calls();
    assert_eq!(writes, [(Method::PATCH, STATUS.to_owned())]);
    assert_eq!(operator.take_events(), [""; 0]);
}

#[tokio::test]
async fn nothing_remains_next_to_a_foreign_object_of_a_new_queue() {
    for path in [LEASE, SERVICE, DEPLOYMENT] {
        let mut operator = new();
        let foreign = operator.create_foreign(path);
        let action = operator.reconcile().await.unwrap();
        assert_eq!(operator.reason(), "NameTaken", "{path}");
        assert_eq!(action, Action::requeue(NAME_TAKEN_RECHECK), "{path}");
        assert_eq!(children(&operator), [path]);
        assert_eq!(operator.api().objects[path], foreign);
        operator.take_calls();

        operator.reconcile().await.unwrap();
        assert_eq!(operator.take_writes(), [""; 0], "{path}");
    }
}

#[tokio::test]
async fn nothing_remains_next_to_a_foreign_object_if_a_call_fails_before() {
    for (place, path) in [("/services/", DEPLOYMENT), ("/roles/", LEASE)] {
        let mut operator = new();
        operator.create_foreign(path);
        // At the creation or, with two, at the deletion.
        for code in [404, 500] {
            operator.api().refuse = Some((place, code, 1));
            let _ = operator.reconcile().await;
        }
        operator.reconcile().await.unwrap();
        assert_eq!(children(&operator), [path]);
        assert_eq!(operator.reason(), "NameTaken", "{path}");
        assert_eq!(operator.take_events(), ["NameTaken"], "{path}");
    }
}

#[tokio::test]
async fn pods_do_not_run_on_a_foreign_lease() {
    let mut operator = Operator::applied().await;
    let lease = operator.create_foreign(LEASE);
    put(&mut operator.writers.leases, lease);
    for _ in 0..2 {
        operator.reconcile().await.unwrap();
        assert!(!operator.has(DEPLOYMENT) && operator.has(SERVICE));
        assert_eq!(operator.reason(), "NameTaken");
    }
}

#[tokio::test]
async fn a_conflict_without_an_object_deletes_nothing() {
    // Such as that of a ResourceQuota.
    let mut operator = new();
    operator.api().refuse = Some(("/services/", 409, 2));
    operator.reconcile().await.unwrap_err();
    let is_delete = |(method, _): &(Method, String)| *method == Method::DELETE;
    operator.reconcile().await.unwrap();
    assert!(!operator.take_calls().iter().any(is_delete));
    assert_eq!(children(&operator).len(), 6);
    assert_eq!(operator.reason(), "RolloutInProgress");
}

#[tokio::test]
async fn a_lease_says_that_there_was_no_leader_only_after_the_deployment_is_created() {
    let mut operator = new();
    operator.reconcile().await.unwrap();
    let calls = operator.take_calls();
    let paths: Vec<_> = calls.iter().map(|(_, path)| &**path).collect();
    let leases = LEASE.strip_suffix("/my-bot-queue").unwrap();
    assert_eq!(paths[4..6], [DEPLOYMENT, leases]);
}

#[tokio::test]
async fn a_child_without_the_operators_label_is_rechecked() {
    let mut operator = Operator::applied().await;
    let metadata = operator.writers.metadata.get_mut(&Kind::Service).unwrap();
    let service = serde_json::from_value(operator.api.lock().unwrap().object("services")).unwrap();
    metadata.apply_watcher_event(&Event::Delete(service));
    let action = operator.reconcile_at(after(Instant::now(), 60)).await;
    assert_eq!(action, Action::requeue(Duration::from_secs(60)));
}

#[tokio::test]
async fn what_an_earlier_attempt_created_is_kept() {
    let mut first = new();
    first.reconcile().await.unwrap();
    let expected = children(&first);
    let before = first.object("leases");
    let mut operator = first.born_with(|path| ![DEPLOYMENT, STATUS].contains(&path));
    operator.reconcile().await.unwrap();
    assert_eq!(children(&operator), expected);
    assert_eq!(operator.object("leases"), before);
    let events = operator.take_events();
    assert_eq!(events, ["RolloutInProgress"]);
}

#[tokio::test]
async fn a_lease_created_next_to_an_existing_deployment_does_not_say_that_there_was_no_leader() {
    let mut first = new();
    first.reconcile().await.unwrap();
    let mut operator = first.born_with(|path| path == DEPLOYMENT);
    operator.reconcile().await.unwrap();
    assert_eq!(children(&operator).len(), 6);
    let lease = operator.object("leases");
    assert_eq!(lease["metadata"].get("annotations"), None);
}

#[tokio::test]
async fn a_failed_write_of_a_new_queue_is_made_up_for() {
    let expected = {
        let mut operator = new();
        operator.reconcile().await.unwrap();
        children(&operator)
    };
    for place in [
        "/serviceaccounts/",
        "/leases",
        "/services/",
        "/deployments/",
    ] {
        for code in [404, 409, 429, 500] {
            let mut operator = new();
            operator.api().refuse = Some((place, code, 1));
            let failed = operator.reconcile().await.is_err();
            // A conflict is resolved by reading.
            assert_eq!(failed, code != 409, "{code} at {place}");
            operator.reconcile().await.unwrap();
            assert_eq!(children(&operator), expected, "{code} at {place}");
            assert_eq!(operator.reason(), "RolloutInProgress", "{code} at {place}");
        }
    }
}

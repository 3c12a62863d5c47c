//! Each call fails in each way. The next reconcile reaches the state that the first would
//! have.

use super::*;

/// Every write, in order.
const WRITES: [&str; 7] = [
    "/serviceaccounts/",
    "/roles/",
    "/rolebindings/",
    "/leases",
    "/services/",
    "/deployments/",
    "/status",
];

const CODES: [u16; 10] = [400, 401, 403, 404, 409, 422, 429, 500, 503, 504];

/// Reconciles until it succeeds. Returns the number of failures.
async fn converge(operator: &mut Operator) -> u32 {
    let mut failures = 0;
    while operator.reconcile().await.is_err() {
        failures += 1;
        assert!(failures < 5, "it does not converge");
    }
    failures
}

/// The paths of all objects.
fn objects(operator: &Operator) -> Vec<String> {
    let mut paths: Vec<String> = operator.api().objects.keys().cloned().collect();
    paths.sort();
    paths
}

async fn without_failure() -> Vec<String> {
    let mut operator = Operator::new(json!({}));
    assert_eq!(converge(&mut operator).await, 0);
    objects(&operator)
}

#[tokio::test]
async fn any_failed_write_is_made_up_for() {
    let expected = without_failure().await;
    assert_eq!(expected.len(), WRITES.len());
    for place in WRITES {
        for code in CODES {
            let mut operator = Operator::new(json!({}));
            operator.api().refuse = Some((place, code, 1));
            assert_eq!(converge(&mut operator).await, 1, "{code} at {place}");
            assert_eq!(objects(&operator), expected, "{code} at {place}");
            assert_eq!(operator.reason(), "RolloutInProgress", "{code} at {place}");
        }
    }
}

#[tokio::test]
async fn a_failed_read_of_a_child_causes_no_write() {
    let expected = without_failure().await;
    for place in &WRITES[..6] {
        for code in [401, 403, 429, 500] {
            let mut operator = Operator::new(json!({}));
            operator.api().hide = Some((place, code, 1));
            assert!(operator.reconcile().await.is_err(), "{code} at {place}");
            assert_eq!(operator.take_writes(), [""; 0], "{code} at {place}");
            assert_eq!(converge(&mut operator).await, 0);
            assert_eq!(objects(&operator), expected, "{code} at {place}");
        }
    }
}

#[tokio::test]
async fn a_status_for_another_object_of_the_name_is_rejected() {
    let mut operator = Operator::new(json!({}));
    let another = json!({"metadata": {"uid": "0666"}, "status": {}});
    operator.api().objects.insert(STATUS.to_owned(), another);
    let error = operator.reconcile().await.unwrap_err().to_string();
    assert!(error.contains("the request is invalid (422)"), "{error}");
    assert_eq!(operator.status(), json!({}));
}

#[tokio::test]
async fn a_rejected_deletion_is_reported_and_retried() {
    let mut operator = Operator::applied().await;
    operator.api().objects.insert(BUDGET.to_owned(), child());
    operator.put_metadata(Kind::PodDisruptionBudget, child());
    operator.api().refuse = Some(("/poddisruptionbudgets/", 403, 1));
    let error = operator.reconcile().await.unwrap_err().to_string();
    assert!(
        error.contains("cannot delete PodDisruptionBudget"),
        "{error}"
    );
    assert_eq!(operator.reason(), "ChildRefused");
    operator.reconcile().await.unwrap();
    assert!(!operator.has(BUDGET));
}

#[tokio::test]
async fn a_repeated_failure_is_reported_and_a_single_one_is_not() {
    let mut operator = Operator::new(json!({}));
    operator.api().refuse = Some(("/services/", 500, 2));
    for reported in [false, true] {
        let error = operator.reconcile().await.unwrap_err();
        let writes = operator.take_writes();
        let is_reported = writes.iter().any(|path| path == STATUS);
        assert_eq!(is_reported, reported, "{writes:?}");
        retry_later(
            stored(&operator.queue),
            &error,
            Arc::clone(&operator.context),
        );
    }
    assert_eq!(operator.reason(), "ApplyFailed");
    let message = operator.ready("message");
    assert!(message.contains("it is forbidden here (500)"), "{message}");
    operator.reconcile().await.unwrap();
    assert_eq!(operator.reason(), "RolloutInProgress");
}

#[tokio::test(start_paused = true)]
async fn a_call_without_an_answer_times_out() {
    for place in WRITES {
        let mut operator = Operator::new(json!({}));
        operator.api().hang = Some(place);
        let error = operator.reconcile().await.unwrap_err().to_string();
        assert!(error.contains("no answer within"), "{place}: {error}");
    }
}

#[tokio::test]
async fn in_a_terminating_namespace_nothing_is_created_reported_or_retried() {
    let mut operator = Operator::new(json!({}));
    operator.api().terminates = true;
    let action = operator.reconcile().await.unwrap();
    assert_eq!(action, Action::await_change());
    assert_eq!(operator.take_writes().len(), 1);
    assert_eq!(operator.take_events(), [""; 0]);
}

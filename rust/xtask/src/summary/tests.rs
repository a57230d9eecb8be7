use super::*;

fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::to_owned).collect()
}

#[test]
fn sums_the_results_of_cargo_test() {
    let output = "running 3 tests\ntest a ... ok\n\
        test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.10s\n\
        test result: FAILED. 2 passed; 4 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s";
    assert_eq!(Counts::of_cargo(&lines(output)), Counts { passed: 5, failed: 4 });
}

#[test]
fn reads_the_summary_of_nextest() {
    let good = "     Summary [   0.005s] 7 tests run: 7 passed, 0 skipped";
    assert_eq!(Counts::of_nextest(&lines(good)), Counts { passed: 7, failed: 0 });
    let bad = "        PASS [   0.1s] (1/9) x y\n     Summary [  62.0s] 9/12 tests run: 5 passed (2 slow, 1 leaky), 2 failed, \
               1 exec failed, 1 timed out, 3 skipped";
    assert_eq!(Counts::of_nextest(&lines(bad)), Counts { passed: 5, failed: 4 });
    let flaky = "     Summary [   3.000s] 7 tests run: 7 passed (1 slow, 3 flaky), 1 skipped";
    assert_eq!(Counts::of_nextest(&lines(flaky)), Counts { passed: 7, failed: 0 });
    assert_eq!((super::flaky(&lines(flaky)), super::flaky(&lines(good))), (3, 0));
}

#[test]
fn reads_the_last_line_of_the_engine_runner() {
    assert_eq!(
        Counts::of_engine(&lines("ok   a::b\n3 passed, 1 failed\nWARNING: x")),
        Some(Counts { passed: 3, failed: 1 })
    );
    assert_eq!(Counts::of_engine(&lines("ok   a::b\nSegmentation fault")), None);
}

#[test]
fn a_stage_that_broke_counts_as_one_failure() {
    let stage = |passed, failed, failure: Option<&str>| Stage {
        name: "stage".to_owned(),
        counts: Counts { passed, failed },
        failure: failure.map(str::to_owned),
        not_run: None,
        took: Duration::ZERO,
    };
    let stages = [stage(3, 0, None), stage(0, 0, Some("no database")), stage(1, 2, Some("exit code 100"))];
    assert_eq!(total(&stages), Counts { passed: 4, failed: 3 });
    let text = report(&stages);
    assert_eq!(text.lines().last(), Some("4 passed, 3 failed"));
    assert!(text.contains("no database"));
}

#[test]
fn a_stage_that_could_not_run_says_so() {
    let stage = Stage {
        name: "powercut".to_owned(),
        counts: Counts::default(),
        failure: None,
        not_run: Some("needs root".to_owned()),
        took: Duration::ZERO,
    };
    let text = report(&[stage]);
    assert!(text.contains("not run"), "{text}");
    assert!(text.contains("powercut: needs root"), "{text}");
}

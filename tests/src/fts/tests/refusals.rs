//! Submissions that are refused, and the recorded words.

use super::*;

#[tokio::test]
async fn refusals_have_the_recorded_words() {
    let rig = Rig::start().await;
    let good = rig.token("https://src.rig.test", "storage.read:/data");
    let mint = |claims| rig.issuer.mint(claims).unwrap().expose().to_owned();
    let without = |claim: &str| mint(json!({"aud": "x", claim: null}));
    let tokens = |token: &str| json!({ "source_tokens": [token] });
    let two = json!({"sources": [SOURCE, SOURCE], "source_tokens": [good, good]});
    rig.json(Method::POST, "/ban/se", Some(json!({"storage": "davs://banned", "status": "cancel"}))).await;
    let value = "Invalid value within the request: ";
    let internal = "The server encountered an internal error and was unable to complete your request. Either the server \
                    is overloaded or there is an error in the application.";
    let empty = json!({});
    let cases = [
        (
            json!({"filesize": "big"}),
            empty.clone(),
            400,
            format!("{value}could not convert string to float: 'big'"),
        ),
        (json!({"metadata": [1]}), empty.clone(), 400, format!("{value}Metadata neither JSON nor String")),
        (
            json!({"metadata": {"x": "y".repeat(4096)}}),
            empty.clone(),
            400,
            format!("{value}Job Submission Refused, metadata exceeds size limit of 4096"),
        ),
        (
            json!({"sources": ["file:///etc/passwd"]}),
            empty.clone(),
            400,
            format!("{value}Can not transfer local files (file:///etc/passwd)"),
        ),
        (json!({"destinations": ["davs://banned/x"]}), empty.clone(), 403, "davs://banned is banned".into()),
        (json!({"sources": [format!("davs://h/{}", "a".repeat(1100))]}), empty.clone(), 500, internal.into()),
        (json!({"source_tokens": [7]}), empty.clone(), 500, internal.into()),
        (
            json!({"source_tokens": [""]}),
            empty.clone(),
            400,
            format!("Token for source '{SOURCE}' is missing."),
        ),
        (
            json!({"source_tokens": null}),
            empty.clone(),
            400,
            "Both source_tokens and destination_tokens are required if one of them is present.".into(),
        ),
        (
            json!({"sources": null}),
            empty.clone(),
            400,
            "Length of source_tokens should be equal to the length of sources.".into(),
        ),
        (
            json!({"destination_tokens": [good, good]}),
            empty.clone(),
            400,
            "Length of destination_tokens should be equal to the length of destinations.".into(),
        ),
        (tokens(&without("nbf")), empty.clone(), 400, "Token does not contain a nbf claim".into()),
        (tokens(&without("exp")), empty.clone(), 400, "Token does not contain an exp claim".into()),
        (tokens(&without("iss")), empty.clone(), 400, "Token does not contain an iss claim".into()),
        (tokens(&without("scope")), empty.clone(), 400, "Token does not contain a scope claim".into()),
        (tokens(&mint(json!({}))), empty.clone(), 400, "Token does not contain an aud claim".into()),
        (
            tokens(&mint(json!({"aud": "x", "exp": NOW.0 - 1}))),
            empty.clone(),
            400,
            "Failed to validate access-token".into(),
        ),
        (tokens(&mint(json!({"aud": "x", "scope": "s".repeat(1025)}))), empty.clone(), 500, internal.into()),
        (
            two.clone(),
            json!({"multihop": true}),
            400,
            "Can not request multiple replica job together with multihop or session reuse at the same time"
                .into(),
        ),
        (
            {
                let mut odd = two.clone();
                odd["selection_strategy"] = "random".into();
                odd
            },
            empty.clone(),
            400,
            "random algorithm is not supported by Scheduler".into(),
        ),
        (
            empty.clone(),
            json!({"overwrite": true, "overwrite_on_retry": true}),
            400,
            "Incompatible overwrite flags used at the same time".into(),
        ),
        (
            empty.clone(),
            json!({"overwrite_hop": true}),
            400,
            "'overwrite-hop' requires multihop job submission".into(),
        ),
        (
            empty.clone(),
            json!({"archive_timeout": 3600}),
            400,
            "Requests to archive to tape using token authentication are not supported".into(),
        ),
        (
            empty.clone(),
            json!({"bring_online": 3600}),
            400,
            "Requests to retrieve from tape using token authentication are not supported".into(),
        ),
        (
            empty.clone(),
            json!({"id_generator": "deterministic"}),
            400,
            "Need sid for deterministic job id generation".into(),
        ),
        (
            empty.clone(),
            json!({"job_metadata": {"x": "y".repeat(2048)}}),
            400,
            format!("{value}Job Submission Refused, metadata exceeds size limit of 2048"),
        ),
        (empty.clone(), Value::Null, 400, "Malformed request: 'NoneType' object is not iterable".into()),
    ];
    for (change, params, status, message) in cases {
        let answer = rig.json(Method::POST, "/jobs", Some(job(&change, &params, &good))).await;
        assert_eq!((answer.0, &answer.1["message"]), (status, &json!(message)), "{change} {params}");
    }
    let mut no_params = job(&empty, &empty, &good);
    no_params.as_object_mut().unwrap().remove("params");
    let mut deletion = job(&empty, &empty, &good);
    deletion["delete"] = json!([DESTINATION]);
    for (body, status, message) in [
        ("{\"files\": [".to_owned(), 400, "Badly formatted JSON request"),
        ("[]".to_owned(), 400, "Expecting a dictionary"),
        (json!({"files": [], "params": {}}).to_string(), 400, "No valid pairs available"),
        (no_params.to_string(), 500, internal),
        (deletion.to_string(), 405, "Deletion jobs are no longer supported by FTS"),
    ] {
        let (seen, text) = rig.call(Method::POST, "/jobs", Some(rig.bearer.expose()), Some(body)).await;
        let answer: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((seen, &answer["message"]), (status, &json!(message)));
    }
    assert_eq!(rig.fts.counts().await.unwrap().jobs, 0);
}

-- The tables of FTS's database (schema 10.0.1, MariaDB) that matter here: columns, indexes and foreign keys as they were read from
-- a real one. Two columns of t_token at its end are gone from 10.0.1, but REST 3.13.4 still writes them: the recorded site kept
-- them, nullable.

CREATE TABLE t_schema_vers (
    major int(11) NOT NULL,
    minor int(11) NOT NULL,
    patch int(11) NOT NULL,
    message text NULL DEFAULT NULL,
    PRIMARY KEY (major, minor, patch)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb3 COLLATE=utf8mb3_general_ci;

CREATE TABLE t_hosts (
    hostname varchar(64) NOT NULL,
    beat timestamp NULL DEFAULT NULL,
    drain int(11) NULL DEFAULT 0,
    service_name varchar(64) NOT NULL,
    PRIMARY KEY (hostname, service_name)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb3 COLLATE=utf8mb3_general_ci;

CREATE TABLE t_server_config (
    retry int(11) NULL DEFAULT 0,
    max_time_queue int(11) NULL DEFAULT 0,
    sec_per_mb int(11) NULL DEFAULT 0,
    global_timeout int(11) NULL DEFAULT 0,
    vo_name varchar(100) NULL DEFAULT NULL,
    no_streaming varchar(3) NULL DEFAULT NULL,
    show_user_dn varchar(3) NULL DEFAULT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb3 COLLATE=utf8mb3_general_ci;

CREATE TABLE t_gridmap (
    dn varchar(255) NOT NULL,
    vo varchar(100) NOT NULL,
    PRIMARY KEY (dn)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb3 COLLATE=utf8mb3_general_ci;

CREATE TABLE t_token_provider (
    name varchar(255) NOT NULL,
    issuer varchar(1024) NOT NULL,
    client_id varchar(255) NOT NULL,
    client_secret varchar(255) NOT NULL,
    required_submission_scope varchar(255) NULL DEFAULT NULL,
    vo_mapping varchar(100) NULL DEFAULT NULL,
    PRIMARY KEY (issuer)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb3 COLLATE=utf8mb3_general_ci;

CREATE TABLE t_token (
    token_id char(16) NOT NULL,
    access_token longtext NOT NULL,
    access_token_expiry timestamp NOT NULL,
    refresh_token longtext NULL DEFAULT NULL,
    issuer varchar(1024) NOT NULL,
    scope varchar(1024) NOT NULL,
    audience varchar(1024) NOT NULL,
    exchange_retry_timestamp timestamp NULL DEFAULT NULL,
    exchange_retry_delay_m int(10) unsigned NULL DEFAULT 0,
    exchange_attempts int(10) unsigned NULL DEFAULT 0,
    exchange_message varchar(2048) NULL DEFAULT NULL,
    retired tinyint(1) NOT NULL DEFAULT 0,
    marked_for_refresh tinyint(1) NULL DEFAULT 0,
    refresh_message varchar(2048) NULL DEFAULT NULL,
    refresh_timestamp timestamp NULL DEFAULT NULL,
    unmanaged tinyint(1) NULL DEFAULT 0,
    access_token_not_before timestamp NULL DEFAULT NULL,
    access_token_refresh_after timestamp NULL DEFAULT NULL,
    KEY fk_token_issuer (issuer),
    KEY idx_retired (retired),
    PRIMARY KEY (token_id),
    CONSTRAINT t_token_fk_token_issuer FOREIGN KEY (issuer) REFERENCES t_token_provider (issuer) ON DELETE RESTRICT
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb3 COLLATE=utf8mb3_general_ci;

CREATE TABLE t_job (
    job_id char(36) NOT NULL,
    job_state enum('STAGING','ARCHIVING','QOS_TRANSITION','QOS_REQUEST_SUBMITTED','SUBMITTED','READY','ACTIVE','FINISHED','FAILED','FINISHEDDIRTY','CANCELED','DELETE') NOT NULL,
    job_type char(1) NULL DEFAULT NULL,
    cancel_job char(1) NULL DEFAULT NULL,
    source_se varchar(255) NULL DEFAULT NULL,
    dest_se varchar(255) NULL DEFAULT NULL,
    user_dn varchar(1024) NULL DEFAULT NULL,
    cred_id char(16) NULL DEFAULT NULL,
    vo_name varchar(50) NULL DEFAULT NULL,
    reason varchar(2048) NULL DEFAULT NULL,
    submit_time timestamp NULL DEFAULT NULL,
    priority int(11) NULL DEFAULT 3,
    submit_host varchar(255) NULL DEFAULT NULL,
    max_time_in_queue int(11) NULL DEFAULT NULL,
    space_token varchar(255) NULL DEFAULT NULL,
    internal_job_params varchar(255) NULL DEFAULT NULL,
    overwrite_flag char(1) NULL DEFAULT NULL,
    job_finished timestamp NULL DEFAULT NULL,
    source_space_token varchar(255) NULL DEFAULT NULL,
    copy_pin_lifetime int(11) NULL DEFAULT NULL,
    checksum_method char(1) NULL DEFAULT NULL,
    bring_online int(11) NULL DEFAULT NULL,
    retry int(11) NULL DEFAULT 0,
    retry_delay int(11) NULL DEFAULT 0,
    target_qos varchar(255) NULL DEFAULT NULL,
    job_metadata text NULL DEFAULT NULL,
    archive_timeout int(11) NULL DEFAULT NULL,
    dst_file_report char(1) NULL DEFAULT NULL,
    os_project_id varchar(512) NULL DEFAULT NULL,
    KEY idx_jobfinished (job_finished),
    KEY idx_jobtype (job_type),
    KEY idx_link (source_se, dest_se),
    KEY idx_submission (submit_time, submit_host),
    KEY idx_vo_name (vo_name),
    PRIMARY KEY (job_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb3 COLLATE=utf8mb3_general_ci;

CREATE TABLE t_file (
    log_file_debug tinyint(1) NULL DEFAULT NULL,
    file_id bigint(20) unsigned NOT NULL AUTO_INCREMENT,
    file_index int(11) NULL DEFAULT NULL,
    job_id char(36) NOT NULL,
    file_state enum('STAGING','ARCHIVING','QOS_TRANSITION','QOS_REQUEST_SUBMITTED','STARTED','SUBMITTED','READY','ACTIVE','FINISHED','FAILED','CANCELED','NOT_USED','ON_HOLD','ON_HOLD_STAGING','FORCE_START','TOKEN_PREP') NOT NULL,
    transfer_host varchar(255) NULL DEFAULT NULL,
    source_surl varchar(1100) NULL DEFAULT NULL,
    dest_surl varchar(1100) NULL DEFAULT NULL,
    source_se varchar(255) NULL DEFAULT NULL,
    dest_se varchar(255) NULL DEFAULT NULL,
    staging_host varchar(1024) NULL DEFAULT NULL,
    reason varchar(2048) NULL DEFAULT NULL,
    current_failures int(11) NULL DEFAULT NULL,
    filesize bigint(20) NULL DEFAULT NULL,
    checksum varchar(100) NULL DEFAULT NULL,
    finish_time timestamp NULL DEFAULT NULL,
    start_time timestamp NULL DEFAULT NULL,
    internal_file_params varchar(255) NULL DEFAULT NULL,
    pid int(11) NULL DEFAULT NULL,
    tx_duration double NULL DEFAULT NULL,
    throughput float NULL DEFAULT NULL,
    retry int(11) NULL DEFAULT 0,
    user_filesize bigint(20) NULL DEFAULT NULL,
    file_metadata text NULL DEFAULT NULL,
    selection_strategy char(32) NULL DEFAULT NULL,
    staging_start timestamp NULL DEFAULT NULL,
    staging_finished timestamp NULL DEFAULT NULL,
    bringonline_token varchar(255) NULL DEFAULT NULL,
    retry_timestamp timestamp NULL DEFAULT NULL,
    log_file varchar(2048) NULL DEFAULT NULL,
    t_log_file_debug int(11) NULL DEFAULT NULL,
    hashed_id int(10) unsigned NULL DEFAULT 0,
    vo_name varchar(50) NULL DEFAULT NULL,
    activity varchar(255) NULL DEFAULT 'default',
    transferred bigint(20) NULL DEFAULT 0,
    priority int(11) NULL DEFAULT 3,
    dest_surl_uuid char(36) NULL DEFAULT NULL,
    archive_start_time timestamp NULL DEFAULT NULL,
    archive_finish_time timestamp NULL DEFAULT NULL,
    staging_metadata text NULL DEFAULT NULL,
    archive_metadata text NULL DEFAULT NULL,
    scitag int(11) NULL DEFAULT NULL,
    src_token_id char(16) NULL DEFAULT NULL,
    dst_token_id char(16) NULL DEFAULT NULL,
    file_state_initial char(32) NULL DEFAULT NULL,
    UNIQUE KEY dest_surl_uuid (dest_surl_uuid),
    KEY dst_token_id (dst_token_id),
    KEY idx_activity (vo_name, activity),
    KEY idx_finish_time (finish_time),
    KEY idx_host (transfer_host),
    KEY idx_job_id (job_id),
    KEY idx_link_state_finish_time (source_se, dest_se, file_state, finish_time),
    KEY idx_link_state_vo (source_se, dest_se, file_state, vo_name),
    KEY idx_staging (file_state, vo_name, source_se),
    KEY idx_staging_token (file_state, vo_name, source_se, bringonline_token),
    KEY idx_state (file_state),
    KEY idx_state_host (file_state, transfer_host),
    PRIMARY KEY (file_id),
    KEY src_token_id (src_token_id),
    CONSTRAINT t_file_dst_token_id FOREIGN KEY (dst_token_id) REFERENCES t_token (token_id) ON DELETE RESTRICT,
    CONSTRAINT t_file_job_id FOREIGN KEY (job_id) REFERENCES t_job (job_id) ON DELETE RESTRICT,
    CONSTRAINT t_file_src_token_id FOREIGN KEY (src_token_id) REFERENCES t_token (token_id) ON DELETE RESTRICT
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb3 COLLATE=utf8mb3_general_ci;

CREATE TABLE t_file_retry_errors (
    file_id bigint(20) unsigned NOT NULL,
    attempt int(11) NOT NULL,
    datetime timestamp NULL DEFAULT NULL,
    reason varchar(2048) NULL DEFAULT NULL,
    transfer_host varchar(255) NULL DEFAULT NULL,
    log_file varchar(2048) NULL DEFAULT NULL,
    KEY idx_datetime (datetime),
    PRIMARY KEY (file_id, attempt),
    CONSTRAINT t_file_retry_errors_t_file_retry_errors_ibfk_1 FOREIGN KEY (file_id) REFERENCES t_file (file_id) ON DELETE CASCADE
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb3 COLLATE=utf8mb3_general_ci;

INSERT INTO t_schema_vers (major, minor, patch, message) VALUES (10, 0, 1, 'the grid in a box');

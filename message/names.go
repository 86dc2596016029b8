// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package message

// Property names with a meaning to RocketMQ (MessageConst.java). Any other name is the
// user's own.
const (
	PropertyKeys           = "KEYS"     // index keys, separated by one space
	PropertyTags           = "TAGS"     // the tag; its Java hash is the tags code
	PropertyUniqKey        = "UNIQ_KEY" // message id made by the client; indexed
	PropertyWait           = "WAIT"     // wait for the flush; see Message.WaitStored
	PropertyDelayLevel     = "DELAY"    // delay level, decimal int32
	PropertyRealTopic      = "REAL_TOPIC"
	PropertyRealQueueID    = "REAL_QID"
	PropertyShardingKey    = "__SHARDINGKEY"
	PropertyCluster        = "CLUSTER"
	PropertyMsgRegion      = "MSG_REGION"
	PropertyTraceOn        = "TRACE_ON"
	PropertyMsgType        = "MSG_TYPE"
	PropertyInstanceID     = "INSTANCE_ID"
	PropertyBornHost       = "__BORNHOST"
	PropertyBornTimestamp  = "BORN_TIMESTAMP"
	PropertyExtendUniqInfo = "EXTEND_UNIQ_INFO"

	// Retry and dead-letter queues.
	PropertyRetryTopic         = "RETRY_TOPIC"
	PropertyOriginMessageID    = "ORIGIN_MESSAGE_ID"
	PropertyReconsumeTime      = "RECONSUME_TIME"
	PropertyMaxReconsumeTimes  = "MAX_RECONSUME_TIMES"
	PropertyDLQOriginTopic     = "DLQ_ORIGIN_TOPIC"
	PropertyDLQOriginMessageID = "DLQ_ORIGIN_MESSAGE_ID"

	// Transactions.
	PropertyTransactionPrepared            = "TRAN_MSG"
	PropertyProducerGroup                  = "PGROUP"
	PropertyTransactionPreparedQueueOffset = "TRAN_PREPARED_QUEUE_OFFSET"
	PropertyTransactionID                  = "__transactionId__"
	PropertyTransactionCheckTimes          = "TRANSACTION_CHECK_TIMES"
	PropertyCheckImmunityTime              = "CHECK_IMMUNITY_TIME_IN_SECONDS"

	// Inner batches and light queues.
	PropertyInnerNum              = "INNER_NUM"  // messages in an inner batch, decimal int16
	PropertyInnerBase             = "INNER_BASE" // first queue offset of an inner batch, decimal int64
	PropertyInnerMultiDispatch    = "INNER_MULTI_DISPATCH"
	PropertyInnerMultiQueueOffset = "INNER_MULTI_QUEUE_OFFSET"
	PropertyDupInfo               = "DUP_INFO"

	// Delivery at a time.
	PropertyTimerDelaySec   = "TIMER_DELAY_SEC"
	PropertyTimerDelayMS    = "TIMER_DELAY_MS"
	PropertyTimerDeliverMS  = "TIMER_DELIVER_MS"
	PropertyTimerOutMS      = "TIMER_OUT_MS"
	PropertyTimerEnqueueMS  = "TIMER_ENQUEUE_MS"
	PropertyTimerDequeueMS  = "TIMER_DEQUEUE_MS"
	PropertyTimerRollTimes  = "TIMER_ROLL_TIMES"
	PropertyTimerDelUniqKey = "TIMER_DEL_UNIQKEY"
	PropertyTimerDelayLevel = "TIMER_DELAY_LEVEL"

	// Stele's own. A delivered message says in STELE_DELAYED at which offset of the
	// log it waited; STELE_CANCEL is in a record of TimerTopic, and names the queue
	// offset there of the message that is not to be delivered.
	PropertyDelayed = "STELE_DELAYED"
	PropertyCancel  = "STELE_CANCEL"

	// PropertyCRC32 holds the CRC of the whole record but for its own 20 bytes. The
	// encoder owns it: a value that is set by hand never reaches a record.
	PropertyCRC32 = "__CRC32#"
)

// Prefixes of topic names that may be longer than MaxTopicLen.
const (
	RetryTopicPrefix = "%RETRY%"
	DLQTopicPrefix   = "%DLQ%"
)

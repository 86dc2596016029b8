// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

// Package delay delivers messages later: after the delay of a level, or at a
// time of their own. It knows when and in which order; where the messages are
// and how they are delivered is passed in.
//
//	SCHEDULE_TOPIC_XXXX/0 ──┐ in order of the queue
//	SCHEDULE_TOPIC_XXXX/1 ──┤
//	        …               ├──▶ Service ──▶ Deliver: appended to the real topic
//	rmq_sys_wheel_timer/0 ──┘ Timers: a heap by time and queue offset
//
// A message that waits is a record in one of these queues, with its real topic
// and queue in its properties (REAL_TOPIC, REAL_QID). The queues are RocketMQ's;
// docs/delay.md says what that means for a broker that shares the directory.
//
// # Invariants
//
//   - Nothing is delivered before it is due by Options.Clock.
//   - A queue of a level is delivered in its order. The head is waited for.
//   - Messages with a time of their own are delivered in the order of their times
//     and then of their queue offsets, but for those that come in late.
//   - A message counts as settled only after Deliver has returned, so a crash at
//     any moment leaves each one either settled or to be delivered.
//   - Progress names an end of the log behind which everything lies that was
//     delivered and is not in it. Who keeps it must not make it durable before
//     the log is, up to that end: a power cut would take the message and leave
//     the word that it was delivered.
//   - A record that makes no sense is reported and passed over.
//
// # Memory
//
// A level takes a few words, however many messages wait in its queue. A message
// with a time of its own takes 16 bytes in the heap until it is due, also when it
// was cancelled, and one bit from the oldest one that waits.
//
// # Who owns what
//
// One goroutine, Run's, delivers. It sleeps on a timer until the next message is
// due and is woken by Notify. Service.mu guards the index and the counters; it is
// a leaf, and not held while a message is read or delivered. The messages that
// Read hands out are borrowed until its callback returns.
//
// # On disk
//
// Nothing. After a crash the index is made again from the timer queue, from
// TimerProgress.Low on, and the log behind Progress.End tells what was delivered
// after the last progress (Settle).
package delay

// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

// Package timeindex is a sparse index over the commit log, in `stele/timeindex`:
// for each stretch of the log (256 KiB) where its first record begins, and how
// late the records before it were stored. So the first record that was stored at
// some time or later is found in a log of any size by looking at a few entries
// and scanning one stretch.
//
//	commit log   ├─────────┬─────────┬─────────┬─────────┬──────┐
//	stretch      0         1         2         3         4
//	             ▲          ▲         ▲          ▲        ▲ first record in or behind it
//	slot         0         1         2         3         4
//
//	slot k  0  time    6  ms; no record before this one was stored later
//	        6  ahead   4  where the record begins: k·stretch + ahead
//	       10  mark    3  of the CRC-32 of the record's own fields
//	       13  check   3  of the CRC-32 of k, the stretch and the bytes before
//
//	file    0  magic, version, stretch, CRC-32
//	      512  4064 slots
//	    65536  end
//
// # Invariants
//
// The time of an entry is the maximum over all records before it, so entries
// never fall along the index, also where store times do because the clock was set
// back. If T(k) < t ≤ T(k+1), the first record of the log stored at t or later
// lies in [record of k, record of k+1): no record before has reached t, and one
// in between has. Search returns exactly the record that a scan of the whole log
// would find.
//
// A slot is found by its place and says so in its check: a page that was never
// written, a torn one, or one of another file is not believed. The mark ties the
// entry to one record: an entry whose record is another one speaks of a log that
// is no more, and Search goes on without the index. The log only grows, so an
// entry whose record is there is right about all that lies before it.
//
// Nothing else needs the index. Without it, and below its first entry, Search
// goes by the first record of each file of the log, taking store times to grow
// from file to file (within SetBack), and scans from there.
//
// # Who owns what
//
// One goroutine at a time feeds an Index (Recover, Put). Flush and Expire may each
// run beside it, on a goroutine of their own, and Search beside all three on any
// number. Files are made by the feeder and removed by Expire, which never takes
// the last one. There are no locks but mappedfile's: what the feeder has written
// is published by the atomic number of the slot behind it.
//
// # After a crash
//
// When a file is full it is flushed before the next one is made, so all but the
// last are durable, in whichever life they were filled. A power cut takes what of
// the last one was not flushed: Recover finds the last entry that is whole and
// that the log agrees with, and has the log fed again from its record on; that is
// a stretch, or what was appended since the checkpoint. What stands behind is
// zeroed, durably, before anything is put, so no entry outlives the log that it
// was made for by more than one recovery. An index that lacks more than
// Options.Rebuild is begun anew: it is not worth reading a terabyte before the store
// opens.
package timeindex

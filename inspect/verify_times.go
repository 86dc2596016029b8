// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/stelelog/stele/internal/layout"
	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/timeindex"
)

// timeCheck compares Stele's time index with the log while that is read.
type timeCheck struct {
	v     *verifier
	index *timeindex.Index
	check *timeindex.Checker
}

func (v *verifier) timesDir() string {
	return filepath.Join(v.d.path, layout.Stele, timeindex.DirName)
}

// openTimes opens the time index, if there is one.
func (v *verifier) openTimes() error {
	index, err := timeindex.OpenReadOnly(nil, v.timesDir())
	var damage *timeindex.DamageError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case errors.As(err, &damage):
		// The first file of an index may be one that is just being made.
		return v.finding(&Finding{Kind: KindTimeIndex, Note: v.abort != nil && errors.Is(err, timeindex.ErrUnbegun), File: damage.Path, Offset: damage.At, Detail: damage.Cause.Error()})
	case err != nil:
		return unreadable(err)
	}
	v.times = &timeCheck{v: v, index: index}
	for _, p := range index.Problems() {
		if err := v.finding(&Finding{Kind: KindFile, File: p.Path, Offset: -1, Detail: p.Error()}); err != nil {
			return err
		}
	}
	v.times.check = timeindex.NewChecker(index, v.notRead, v.times.mismatch)
	return nil
}

// notRead reports whether a record at an offset can't have been read: it has
// expired or is damaged, or after a crash, and beside a live owner, lies behind
// what was read.
func (v *verifier) notRead(off message.Offset) bool {
	behind := off >= v.last.PhysicalOffset+message.Offset(v.last.Size)
	return off < v.log.Min() || v.damaged(off) || behind && v.abort != nil
}

func (x *timeCheck) record(m *message.Message) error {
	return guard(func() error { return x.check.Record(m) })
}

func (x *timeCheck) conclude() error {
	var lacks int64
	err := guard(func() (err error) {
		lacks, err = x.check.Finish()
		return err
	})
	if err != nil || lacks == 0 {
		return err
	}
	return x.v.finding(&Finding{
		Kind: KindTimeIndex, Note: true, File: x.v.timesDir(), Offset: -1,
		Detail: fmt.Sprintf("it lacks its last %d entries; opening the store makes them", lacks),
	})
}

func (x *timeCheck) mismatch(m timeindex.Mismatch) error {
	return x.v.finding(&Finding{
		Kind: KindTimeIndex, Note: m.Last && x.v.abort != nil, File: m.Path, Offset: m.At, Detail: m.Cause.Error(),
	})
}

// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package retention

import (
	"errors"
	"fmt"
	"time"
)

// The defaults, which are RocketMQ's: diskMaxUsedSpaceRatio,
// diskSpaceCleanForciblyRatio, diskSpaceWarningLevelRatio, deleteFileBatchMax.
const (
	DefaultNormalAt     = 75
	DefaultForceAt      = 85
	DefaultRefuseAt     = 90
	DefaultFilesPerPass = 10
)

// ErrPolicy is returned for a policy that makes no sense.
var ErrPolicy = errors.New("invalid retention policy")

// Policy says which files may go. With the zero value none does.
type Policy struct {
	// MaxAge is how long a message is kept at least, unless a rule below takes
	// its file earlier; 0 is for ever.
	MaxAge time.Duration
	// MaxSize is how many bytes the files of the log may have together, the
	// active one included; 0 is no limit.
	MaxSize int64
	// WhenFull lets the oldest files go, however young, while the disk is used
	// above ForceAt.
	WhenFull bool
	// Hours are the hours of the day, 0 to 23 in the location of Input.Now, in
	// which files go for their age; none means all.
	Hours []int
	// FilesPerPass is how many files go at most by one plan; 0 means
	// DefaultFilesPerPass, negative any number.
	FilesPerPass int

	// NormalAt, ForceAt and RefuseAt are percentages of the disk: used above
	// NormalAt, files go for their age at any hour; above ForceAt, they go
	// whatever their age, if WhenFull says so; above RefuseAt, appends are
	// refused. 0 means the default, negative never.
	NormalAt, ForceAt, RefuseAt int
	// EnoughFree is so many free bytes that none of the three percentages
	// counts: a tenth of a large disk is a lot. 0 or less is no such number.
	EnoughFree int64
}

// RocketMQ is the policy of a broker with the defaults of its configuration: 72
// hours, at four in the morning, and the oldest files when the disk is full.
func RocketMQ() Policy {
	return Policy{MaxAge: 72 * time.Hour, Hours: []int{4}, WhenFull: true, EnoughFree: -1}
}

// Deletes reports whether the policy may let any file go.
func (p Policy) Deletes() bool { return p.MaxAge > 0 || p.MaxSize > 0 || p.WhenFull }

// Validate says everything that is wrong with the policy. The errors wrap
// ErrPolicy.
func (p Policy) Validate() error {
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: "+format, append([]any{ErrPolicy}, args...)...))
	}
	if p.MaxAge < 0 {
		bad("MaxAge %v", p.MaxAge)
	}
	if p.MaxSize < 0 {
		bad("MaxSize %d", p.MaxSize)
	}
	for _, h := range p.Hours {
		if h < 0 || h > 23 {
			bad("hour %d, between 0 and 23", h)
		}
	}
	p = p.withDefaults()
	last, name := 0, ""
	for _, r := range []struct {
		name  string
		value int
	}{{"NormalAt", p.NormalAt}, {"ForceAt", p.ForceAt}, {"RefuseAt", p.RefuseAt}} {
		switch {
		case r.value < 0:
			continue
		case r.value > 100:
			bad("%s %d, at most 100 percent", r.name, r.value)
		case r.value < last:
			bad("%s %d is below %s %d", r.name, r.value, name, last)
		}
		last, name = r.value, r.name
	}
	return errors.Join(errs...)
}

func (p Policy) withDefaults() Policy {
	for _, v := range []struct {
		value *int
		def   int
	}{
		{&p.NormalAt, DefaultNormalAt}, {&p.ForceAt, DefaultForceAt},
		{&p.RefuseAt, DefaultRefuseAt}, {&p.FilesPerPass, DefaultFilesPerPass},
	} {
		if *v.value == 0 {
			*v.value = v.def
		}
	}
	return p
}

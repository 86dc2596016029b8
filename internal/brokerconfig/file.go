// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package brokerconfig

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Names of the files in a broker's config directory
// (BrokerPathConfigHelper.java, StorePathConfigHelper.java).
const (
	TopicsFile          = "topics.json"
	ConsumerOffsetsFile = "consumerOffset.json"
	DelayOffsetsFile    = "delayOffset.json"

	backupSuffix = ".bak"
)

// maxFileSize is the largest file that is read: far above what a broker writes
// (ten million offsets), far below what would hurt the reader.
const maxFileSize = 512 << 20

// errEmpty stands for a file of no bytes: what a broker leaves that dies
// between creating a file and writing it.
var errEmpty = errors.New("empty file")

// Source says where a value came from.
type Source struct {
	// Path is the file that was read, empty when there was none.
	Path string
	// Passed is why the file itself was passed over for its .bak (missing,
	// empty or malformed), nil when Path is the file itself.
	Passed error
}

// ReadTopics reads topics.json in a broker's config directory, or its .bak.
// See read for the errors.
func ReadTopics(dir string) (Topics, Source, error) {
	return read(filepath.Join(dir, TopicsFile), DecodeTopics)
}

// ReadConsumerOffsets reads consumerOffset.json in a broker's config directory,
// or its .bak. See read for the errors.
func ReadConsumerOffsets(dir string) (ConsumerOffsets, Source, error) {
	return read(filepath.Join(dir, ConsumerOffsetsFile), DecodeConsumerOffsets)
}

// ReadDelayOffsets reads delayOffset.json in a broker's config directory, or its
// .bak. See read for the errors.
func ReadDelayOffsets(dir string) (DelayOffsets, Source, error) {
	return read(filepath.Join(dir, DelayOffsetsFile), DecodeDelayOffsets)
}

// WriteTopics replaces topics.json in dir, and keeps the previous one as .bak.
// dir is created if need be. The file is durable when WriteTopics returns nil.
func WriteTopics(dir string, t Topics) error {
	return write(filepath.Join(dir, TopicsFile), t.Encode(), decodes(DecodeTopics))
}

// WriteConsumerOffsets does for consumerOffset.json what WriteTopics does for
// topics.json.
func WriteConsumerOffsets(dir string, o ConsumerOffsets) error {
	return write(filepath.Join(dir, ConsumerOffsetsFile), o.Encode(), decodes(DecodeConsumerOffsets))
}

// WriteDelayOffsets does for delayOffset.json what WriteTopics does for
// topics.json.
func WriteDelayOffsets(dir string, o DelayOffsets) error {
	return write(filepath.Join(dir, DelayOffsetsFile), o.Encode(), decodes(DecodeDelayOffsets))
}

func decodes[T any](decode func([]byte) (T, error)) func([]byte) bool {
	return func(data []byte) bool {
		_, err := decode(data)
		return err == nil
	}
}

// read decodes path, or path.bak when path is missing, empty or malformed.
//
// Neither file there, or an empty one without a .bak (a broker's first write
// that did not finish), is an empty value and no error, as for the broker. A
// malformed file without a usable .bak is an error: there was data, and it
// cannot be had. So is any other I/O error: to answer from an old copy because
// of a missing permission would be to lie.
func read[T any](path string, decode func([]byte) (T, error)) (T, Source, error) {
	var none T
	value, err := readOne(path, decode)
	if err == nil {
		return value, Source{Path: path}, nil
	}
	if !passable(err) {
		return none, Source{}, err
	}
	backup := path + backupSuffix
	value, bakErr := readOne(backup, decode)
	switch {
	case bakErr == nil:
		return value, Source{Path: backup, Passed: err}, nil
	case !passable(bakErr):
		return none, Source{}, errors.Join(err, bakErr)
	case errors.Is(err, ErrMalformed), errors.Is(bakErr, ErrMalformed):
		return none, Source{}, errors.Join(err, bakErr)
	}
	value, err = decode([]byte("{}"))
	return value, Source{}, err
}

func passable(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, errEmpty) || errors.Is(err, ErrMalformed)
}

func readOne[T any](path string, decode func([]byte) (T, error)) (T, error) {
	var none T
	info, err := os.Stat(path)
	if err != nil {
		return none, err
	}
	if info.Size() > maxFileSize {
		return none, fmt.Errorf("%s: %d bytes, more than the limit of %d", path, info.Size(), maxFileSize)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return none, err
	}
	if len(data) == 0 {
		return none, fmt.Errorf("%s: %w", path, errEmpty)
	}
	value, err := decode(data)
	if err != nil {
		return none, inFile(path, err)
	}
	return value, nil
}

// write puts data at path. good says of the current content whether it is worth
// keeping as .bak: a torn file must not take the place of a whole .bak.
func write(path string, data []byte, good func([]byte) bool) (err error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	temp, err := writeTemp(path, data)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(temp))
		}
	}()
	current, err := os.ReadFile(path)
	switch {
	case err == nil && good(current):
		if err := os.Rename(path, path+backupSuffix); err != nil {
			return err
		}
		// The .bak must be there for good before anything can happen to the file.
		if err := syncDir(dir); err != nil {
			return err
		}
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		return err
	}
	return syncDir(dir)
}

// writeTemp writes and syncs a file beside path and returns its name.
func writeTemp(path string, data []byte) (name string, err error) {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".tmp-*")
	if err != nil {
		return "", err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(0o644)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return "", errors.Join(err, os.Remove(f.Name()))
	}
	return f.Name(), nil
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

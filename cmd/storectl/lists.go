// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// listOf is what a flag that takes several values holds.
type listOf[T any] []T

// listValue is such a flag: values of another flag type, separated by commas.
// Giving the flag again replaces what was there.
type listValue[T any, P interface {
	*T
	Set(string) error
	String() string
	Type() string
}] struct{ to *listOf[T] }

func newListValue[P interface {
	*T
	Set(string) error
	String() string
	Type() string
}, T any](to *listOf[T]) listValue[T, P] {
	return listValue[T, P]{to}
}

func (l listValue[T, P]) Type() string { return P(new(T)).Type() + ",..." }

func (l listValue[T, P]) String() string {
	if l.to == nil {
		return ""
	}
	texts := make([]string, len(*l.to))
	for i := range *l.to {
		texts[i] = strings.ReplaceAll(P(&(*l.to)[i]).String(), " ", "")
	}
	return strings.Join(texts, ",")
}

func (l listValue[T, P]) Set(text string) error {
	var values listOf[T]
	var seen []string
	for part := range strings.SplitSeq(text, ",") {
		var v T
		if err := P(&v).Set(strings.TrimSpace(part)); err != nil {
			return err
		}
		name := P(&v).String()
		if slices.Contains(seen, name) {
			return fmt.Errorf("%s is there twice", name)
		}
		seen, values = append(seen, name), append(values, v)
	}
	*l.to = values
	return nil
}

// count is a whole number above 0.
type count int

func (c *count) String() string { return strconv.Itoa(int(*c)) }
func (c *count) Type() string   { return "N" }

func (c *count) Set(text string) error {
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return fmt.Errorf("%q must be a whole number above 0", text)
	}
	*c = count(n)
	return nil
}

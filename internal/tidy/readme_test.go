// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package tidy

import (
	"go/parser"
	"go/token"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// exampleFile runs what README shows.
const exampleFile = "../../store/example_readme_test.go"

// TestReadmeProgram holds README's program equal to what store's Example runs.
// `.ci/run readme` runs it as it stands.
func TestReadmeProgram(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	program := goBlock(string(readme))
	_, err = parser.ParseFile(token.NewFileSet(), "README.md", program, 0)
	require.NoError(t, err)

	example, err := os.ReadFile(exampleFile)
	require.NoError(t, err)
	function := topLevel(program, "func embed(")
	require.NotEmpty(t, function)
	require.Equal(t, topLevel(string(example), "func embed("), function)
}

// TestReadmeCommands: .ci/run does what README says, to the letter.
func TestReadmeCommands(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	script, err := os.ReadFile("../../.ci/run")
	require.NoError(t, err)
	for _, command := range []string{"go run ./cmd/storectl demo", "go test ./..."} {
		require.Contains(t, string(readme), "```\n"+command+"\n```\n")
		require.Contains(t, string(script), "\trun "+command+"\n")
	}
}

// goBlock is the first block of Go in a page.
func goBlock(page string) string {
	_, rest, _ := strings.Cut(page, "```go\n")
	block, _, _ := strings.Cut(rest, "```\n")
	return block
}

// topLevel is the text of a declaration, from its first words to the closing
// brace in the first column.
func topLevel(source, start string) string {
	at := strings.Index(source, "\n"+start)
	if at < 0 {
		return ""
	}
	text, _, _ := strings.Cut(source[at+1:], "\n}\n")
	return text
}

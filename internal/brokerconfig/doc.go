// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

// Package brokerconfig reads and writes three of the text files that a
// RocketMQ broker keeps under config/: topics.json, consumerOffset.json and
// delayOffset.json. It knows files and their text, nothing else: what the
// values mean to a running store is the business of the packages above.
//
// # The text
//
// The broker writes the files with fastjson (RemotingSerializable.java), and
// what comes out is almost JSON:
//
//	{
//		"dataVersion":{
//			"counter":3,
//			"stateVersion":0,
//			"timestamp":1700000000000
//		},
//		"groupTopicMap":{
//			"groupA":["TopicTest"]
//		},
//		"offsetTable":{
//			"TopicTest@groupA":{0:15,1:12
//			}
//		}
//	}
//
// Bean properties are sorted by name and indented by tabs, there is no space
// after a colon, and maps with integer keys have their keys unquoted, which
// makes the file invalid for a JSON parser. fastjson also writes the entries
// of such a map on one line and the closing brace on the next. The encoders
// here write that very shape; the decoders accept any white space, quoted and
// unquoted integer keys, and are otherwise as strict as JSON: what they do not
// understand is an *Error with the byte offset, never a guess.
//
// Fields that this package does not know are kept as text (Extra) and written
// back in their sorted place. A missing field has the value that the Java
// class gives it.
//
// # The files
//
// ConfigManager.java moves the current file to NAME.bak, then writes the new
// one in place, so a crash can leave NAME missing, empty or torn while
// NAME.bak is whole. The Read functions fall back in the same cases. They
// differ from the broker in two ways: they never delete or change a file, and
// a torn file without a usable .bak is an error instead of an empty table.
//
// The Write functions write a temporary file, sync it, rename the current file
// to NAME.bak, rename the temporary file to NAME, and sync the directory.
// Whatever moment a crash picks, NAME or NAME.bak is whole: only a current
// file that can be decoded may replace the .bak.
//
// # Concurrency
//
// Values are plain data without locks. Reading is safe beside a live broker.
// Two writers of one file at a time are not coordinated: the last rename wins.
package brokerconfig

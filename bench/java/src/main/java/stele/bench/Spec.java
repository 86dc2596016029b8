// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package stele.bench;

import com.alibaba.fastjson2.JSONObject;

/** What is to be measured: the spec of workload.go. */
final class Spec {
    final String dir;
    final String kind;
    final boolean sync;
    final int step;
    final int size;
    final int producers;
    final int batch;
    final long nanos;
    final long messages;

    Spec(JSONObject spec) {
        dir = spec.getString("dir");
        kind = spec.getString("kind");
        sync = spec.getString("mode").equals("sync");
        step = spec.getIntValue("step");
        size = spec.getIntValue("size");
        producers = spec.getIntValue("producers");
        batch = spec.getIntValue("batch");
        nanos = spec.getLongValue("time");
        messages = spec.getLongValue("messages");
    }
}

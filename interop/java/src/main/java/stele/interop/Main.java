// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package stele.interop;

import com.alibaba.fastjson2.JSON;
import com.alibaba.fastjson2.JSONArray;
import com.alibaba.fastjson2.JSONObject;
import com.alibaba.fastjson2.JSONWriter;
import java.io.BufferedReader;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;

/**
 * Runs RocketMQ's own message store for tests. It takes one request a line on
 * standard input, a JSON object with a number "id", an "op" and mostly the name
 * of a "store", and answers each with lines that have the same id: some with
 * "more", then one without, which has "error" if the request failed. Requests to
 * one store are worked through in order, those to different stores side by side.
 *
 * <p>At the end of the input the process ends without closing what is open.
 */
public final class Main {
    private static final PrintStream OUT = new PrintStream(new FileOutputStream(FileDescriptor.out), false,
        StandardCharsets.UTF_8);
    private static final Map<String, Handle> HANDLES = new ConcurrentHashMap<>();

    private Main() {
    }

    /** A store, and the one thread on which it is used. */
    private static final class Handle {
        final Logged logged = new Logged();
        final ExecutorService thread;
        OpenStore store;

        private final ThreadGroup group;

        Handle(String name) {
            group = new ThreadGroup(name);
            Logged.attach(group, logged);
            thread = Executors.newSingleThreadExecutor(work -> {
                Thread t = new Thread(group, work, name);
                t.setDaemon(true);
                return t;
            });
        }

        /** Lets go of the thread, and of the buffers that RocketMQ keeps for it. */
        void end() {
            store = null;
            Logged.detach(group);
            thread.shutdown();
        }
    }

    public static void main(String[] args) throws Exception {
        // What libraries print must not come between the answers.
        System.setOut(System.err);
        Logged.install();
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            JSONObject request = JSON.parseObject(line);
            long id = request.getLongValue("id");
            String op = request.getString("op");
            if (op.equals("halt")) {
                Runtime.getRuntime().halt(137);
            }
            Handle handle = HANDLES.computeIfAbsent(request.getString("store"), Handle::new);
            handle.thread.execute(() -> answer(handle, id, op, request));
        }
        Runtime.getRuntime().halt(0);
    }

    private static void answer(Handle handle, long id, String op, JSONObject request) {
        JSONObject reply;
        try {
            reply = run(handle, id, op, request);
        } catch (Throwable e) {
            StringWriter trace = new StringWriter();
            e.printStackTrace(new PrintWriter(trace));
            reply = new JSONObject();
            reply.put("error", trace.toString());
        }
        reply.put("id", id);
        print(reply);
    }

    private static void print(JSONObject line) {
        synchronized (OUT) {
            OUT.println(line.toJSONString(JSONWriter.Feature.WriteNulls));
            OUT.flush();
        }
    }

    private static JSONObject run(Handle handle, long id, String op, JSONObject request) throws Exception {
        JSONObject reply = new JSONObject();
        if (op.equals("open")) {
            handle.store = OpenStore.of(request.getString("dir"), request.getJSONObject("config"));
            reply.put("loaded", handle.store.open());
            reply.put("min", handle.store.minOffset());
            reply.put("max", handle.store.maxOffset());
            reply.put("log", handle.logged.take());
            return reply;
        }
        OpenStore store = handle.store;
        switch (op) {
            case "put":
                JSONArray results = new JSONArray();
                for (Object m : request.getJSONArray("messages")) {
                    results.add(store.put((JSONObject) m));
                }
                reply.put("results", results);
                break;
            case "begin":
                store.begin(request.getString("topic"), request.getIntValue("queueId"), request.getLongValue("offset"));
                break;
            case "settle":
                store.settle();
                reply.put("max", store.maxOffset());
                break;
            case "dump":
                store.dump(request.getBooleanValue("skipBlank"), line -> {
                    line.put("id", id);
                    line.put("more", true);
                    print(line);
                });
                reply.put("min", store.minOffset());
                reply.put("max", store.maxOffset());
                break;
            case "look":
                reply.put("messages", store.look(request.getJSONArray("offsets")));
                break;
            case "query":
                reply.put("offsets", store.query(request));
                break;
            case "times":
                store.times(request, reply);
                break;
            case "expire":
                store.expire();
                reply.put("min", store.minOffset());
                break;
            case "close":
                store.close();
                reply.put("log", handle.logged.take());
                HANDLES.remove(request.getString("store"));
                handle.end();
                break;
            default:
                throw new IllegalArgumentException("no such op: " + op);
        }
        return reply;
    }
}

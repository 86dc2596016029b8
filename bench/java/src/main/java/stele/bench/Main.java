// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package stele.bench;

import com.alibaba.fastjson2.JSON;
import com.alibaba.fastjson2.JSONObject;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.PrintStream;
import java.lang.management.ManagementFactory;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Paths;
import java.util.Arrays;
import java.util.Random;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.rocketmq.logging.ch.qos.logback.classic.LoggerContext;
import org.apache.rocketmq.logging.org.slf4j.LoggerFactory;

/**
 * Measures RocketMQ's own message store: takes one spec, a JSON object, and prints
 * one result, as the children of the Go program do.
 */
public final class Main {
    private static final PrintStream OUT = new PrintStream(new FileOutputStream(FileDescriptor.out), false,
        StandardCharsets.UTF_8);
    /** What is put before the clock starts, so that the JVM has compiled the path: at most, and how long. */
    private static final int WARM_PUTS = 200_000;
    private static final long WARM_NANOS = 2_000_000_000L;
    /** How many messages are read by number at most, as in child.go. */
    private static final int PICKS = 200_000;
    private static final long FILL_NANOS = 30_000_000_000L;

    private Main() {
    }

    public static void main(String[] args) {
        // What libraries print must not come between.
        System.setOut(System.err);
        ((LoggerContext) LoggerFactory.getILoggerFactory()).reset();
        try {
            measure(new Spec(JSON.parseObject(args[0])));
        } catch (Throwable e) {
            e.printStackTrace();
            Runtime.getRuntime().halt(1); // The store's threads would go on.
        }
        // Closing is not measured, and takes RocketMQ three seconds.
        Runtime.getRuntime().halt(0);
    }

    private static void measure(Spec spec) throws Exception {
        long began = System.nanoTime();
        Rocket store = new Rocket(spec);
        store.open();
        JSONObject result = new JSONObject();
        switch (spec.kind) {
            case "append":
                produce(store, spec, result);
                break;
            case "scan":
                fill(store, spec);
                scan(store, spec, result);
                break;
            case "pick":
                fill(store, spec);
                pick(store, spec, result);
                break;
            case "reopen":
                if (spec.step == 1) {
                    writeAndDie(store, spec);
                }
                long found = store.count();
                seconds(result, began);
                result.put("found", found);
                result.put("messages", found);
                break;
            default:
                throw new IllegalArgumentException("kind " + spec.kind);
        }
        memory(result);
        print(result);
    }

    private static void print(JSONObject result) {
        OUT.println(result.toJSONString());
        OUT.flush();
    }

    private static void seconds(JSONObject result, long began) {
        result.put("seconds", (System.nanoTime() - began) / 1e9);
    }

    /** One thread that puts. */
    private static final class Producer {
        final Spec spec;
        final Rocket store;
        final Rocket.Putter putter;
        final Bodies bodies;
        long done;
        long[] nanos = new long[1 << 16];
        int timed;

        Producer(Rocket store, Spec spec, int index) {
            this.store = store;
            this.spec = spec;
            bodies = new Bodies(index, spec.producers, spec.size);
            putter = store.putter(index);
        }

        void put() throws Exception {
            if (spec.batch > 1) {
                putter.putBatch(bodies, spec.batch);
            } else {
                putter.put(bodies.one());
            }
        }

        void warm() throws Exception {
            long begin = System.nanoTime();
            int most = spec.sync ? WARM_PUTS / 100 : WARM_PUTS;
            for (int i = 0; i < most && System.nanoTime() - begin < WARM_NANOS; i += spec.batch) {
                put();
            }
        }

        void run(long start, long time) throws Exception {
            long most = spec.messages / spec.producers;
            long from = System.nanoTime();
            for (int i = 0; done < most && from - start < time; i++) {
                put();
                done += spec.batch;
                if (spec.sync) {
                    long now = System.nanoTime();
                    if (timed == nanos.length) {
                        nanos = Arrays.copyOf(nanos, 2 * timed);
                    }
                    nanos[timed++] = now - from;
                    from = now;
                } else if (i % 32 == 31) {
                    from = System.nanoTime();
                }
            }
        }
    }

    private interface Work {
        void of(Producer p) throws Exception;
    }

    private static void together(Producer[] all, Work work) throws Exception {
        Thread[] threads = new Thread[all.length];
        AtomicReference<Exception> failed = new AtomicReference<>();
        for (int i = 0; i < all.length; i++) {
            Producer p = all[i];
            threads[i] = new Thread(() -> {
                try {
                    work.of(p);
                } catch (Exception e) {
                    failed.compareAndSet(null, e);
                }
            });
            threads[i].start();
        }
        for (Thread t : threads) {
            t.join();
        }
        if (failed.get() != null) {
            throw failed.get();
        }
    }

    private static void produce(Rocket store, Spec spec, JSONObject result) throws Exception {
        Producer[] all = new Producer[spec.producers];
        for (int i = 0; i < all.length; i++) {
            all[i] = new Producer(store, spec, i);
        }
        together(all, Producer::warm);
        store.settle();
        System.gc();
        long start = System.nanoTime();
        together(all, p -> p.run(start, spec.nanos));
        result.put("appendSeconds", (System.nanoTime() - start) / 1e9);
        store.settle();
        seconds(result, start);
        long messages = 0;
        int timed = 0;
        for (Producer p : all) {
            messages += p.done;
            timed += p.timed;
        }
        result.put("messages", messages);
        if (timed > 0) {
            latencies(all, new long[timed], result);
        }
    }

    private static void latencies(Producer[] all, long[] nanos, JSONObject result) {
        int at = 0;
        for (Producer p : all) {
            System.arraycopy(p.nanos, 0, nanos, at, p.timed);
            at += p.timed;
        }
        Arrays.sort(nanos);
        result.put("p50us", nanos[(int) (nanos.length * 0.5)] / 1e3);
        result.put("p99us", nanos[(int) (nanos.length * 0.99)] / 1e3);
        result.put("p999us", nanos[(int) (nanos.length * 0.999)] / 1e3);
        result.put("maxUs", nanos[nanos.length - 1] / 1e3);
    }

    private static long fill(Rocket store, Spec spec) throws Exception {
        Producer p = new Producer(store, spec, 0);
        p.run(System.nanoTime(), FILL_NANOS);
        store.settle();
        return p.done;
    }

    private static void scan(Rocket store, Spec spec, JSONObject result) throws Exception {
        // Once for the JVM to compile the path, over a part of it.
        store.scan(0, WARM_PUTS, spec, WARM_NANOS);
        System.gc();
        long start = System.nanoTime();
        result.put("messages", store.scan(0, Long.MAX_VALUE, spec, spec.nanos));
        seconds(result, start);
    }

    private static void pick(Rocket store, Spec spec, JSONObject result) throws Exception {
        long count = store.count();
        Random random = new Random(1);
        for (long warm = System.nanoTime(), i = 0; i < PICKS / 4 && System.nanoTime() - warm < WARM_NANOS; i++) {
            store.pick((long) (random.nextDouble() * count));
        }
        System.gc();
        long start = System.nanoTime();
        long done = 0;
        for (; done < PICKS && (done % 16 != 0 || System.nanoTime() - start < spec.nanos); done++) {
            long i = (long) (random.nextDouble() * count);
            if (Bodies.number(store.pick(i)) != i) {
                throw new IllegalStateException("another message is there instead of " + i);
            }
        }
        seconds(result, start);
        result.put("messages", done);
    }

    private static void writeAndDie(Rocket store, Spec spec) throws Exception {
        long began = System.nanoTime();
        JSONObject result = new JSONObject();
        result.put("messages", fill(store, spec));
        seconds(result, began);
        print(result);
        new ProcessBuilder("kill", "-9", Long.toString(ProcessHandle.current().pid())).start().waitFor();
    }

    private static void memory(JSONObject result) throws Exception {
        long heap = ManagementFactory.getMemoryMXBean().getHeapMemoryUsage().getUsed();
        result.put("heapInUseBytes", heap);
        result.put("heapPeakBytes", heap);
        result.put("allocsPerOp", -1); // not counted
        for (String line : Files.readAllLines(Paths.get("/proc/self/status"))) {
            String[] parts = line.split("\\s+");
            if (parts[0].equals("VmHWM:")) {
                result.put("rssPeakBytes", Long.parseLong(parts[1]) << 10);
            } else if (parts[0].equals("RssAnon:")) {
                result.put("rssAnonBytes", Long.parseLong(parts[1]) << 10);
            }
        }
    }
}

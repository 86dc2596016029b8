// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package stele.interop;

import com.alibaba.fastjson2.JSONArray;
import com.alibaba.fastjson2.JSONObject;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.regex.Pattern;
import org.apache.rocketmq.logging.ch.qos.logback.classic.Level;
import org.apache.rocketmq.logging.ch.qos.logback.classic.Logger;
import org.apache.rocketmq.logging.ch.qos.logback.classic.LoggerContext;
import org.apache.rocketmq.logging.ch.qos.logback.classic.spi.ILoggingEvent;
import org.apache.rocketmq.logging.ch.qos.logback.core.AppenderBase;
import org.apache.rocketmq.logging.org.slf4j.LoggerFactory;

/**
 * What the threads of one store log: warnings and errors, and whatever speaks of
 * deleting or cutting. Threads inherit the group of the one that starts them,
 * so the group of a thread tells whose it is.
 */
final class Logged {
    private static final Map<ThreadGroup, Logged> BY_GROUP = new ConcurrentHashMap<>();
    private static final Pattern CHANGES = Pattern.compile("delet|truncat|destroy|dirty", Pattern.CASE_INSENSITIVE);

    private JSONArray events = new JSONArray();

    static void attach(ThreadGroup group, Logged logged) {
        BY_GROUP.put(group, logged);
    }

    static void detach(ThreadGroup group) {
        BY_GROUP.remove(group);
    }

    /** Makes RocketMQ's loggers write here and nowhere else. */
    static void install() {
        LoggerContext context = (LoggerContext) LoggerFactory.getILoggerFactory();
        context.reset();
        AppenderBase<ILoggingEvent> appender = new AppenderBase<>() {
            @Override
            protected void append(ILoggingEvent event) {
                Logged logged = BY_GROUP.get(Thread.currentThread().getThreadGroup());
                if (logged != null) {
                    logged.add(event);
                }
            }
        };
        appender.setContext(context);
        appender.start();
        Logger root = context.getLogger(org.apache.rocketmq.logging.org.slf4j.Logger.ROOT_LOGGER_NAME);
        root.setLevel(Level.INFO);
        root.addAppender(appender);
    }

    private synchronized void add(ILoggingEvent event) {
        String text = event.getFormattedMessage();
        if (!event.getLevel().isGreaterOrEqual(Level.WARN) && !CHANGES.matcher(text).find()) {
            return;
        }
        JSONObject line = new JSONObject();
        line.put("level", event.getLevel().toString());
        line.put("text", event.getThrowableProxy() == null ? text
            : text + ": " + event.getThrowableProxy().getClassName() + ": " + event.getThrowableProxy().getMessage());
        events.add(line);
    }

    /** Returns what was logged since it was asked last. */
    synchronized JSONArray take() {
        JSONArray taken = events;
        events = new JSONArray();
        return taken;
    }
}

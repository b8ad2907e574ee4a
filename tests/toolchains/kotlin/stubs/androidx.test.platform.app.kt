package androidx.test.platform.app

import android.content.Context
import android.os.Bundle
import java.io.File

class Instrumentation(val context: Context, val targetContext: Context)

/** What a phone's runner would say stands in the system properties `veca.phone` and `veca.argument.NAME`. */
object InstrumentationRegistry {
    @JvmStatic
    fun getInstrumentation(): Instrumentation {
        val phone = File(System.getProperty("veca.phone"))
        return Instrumentation(Context(File(phone, "test")), Context(phone))
    }

    @JvmStatic
    fun getArguments(): Bundle {
        val prefix = "veca.argument."
        val given = System.getProperties().stringPropertyNames().filter { it.startsWith(prefix) }
        return Bundle(given.associate { it.removePrefix(prefix) to System.getProperty(it) })
    }
}
